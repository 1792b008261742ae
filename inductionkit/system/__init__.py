"""What every room uses and no score depends on: files, Zarr stores, progress bars, devices, lazily loaded names."""
