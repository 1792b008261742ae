/** A lower triangle of coloured cells: one pixel a cell, then scaled without smoothing. */
export class Pixels {
  private readonly small = document.createElement("canvas");

  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** Draw `n` rows to a square of `side` CSS pixels; `colour` gives a cell as a canvas pixel. */
  paint(n: number, side: number, colour: ((query: number, key: number) => number) | null): void {
    this.small.width = this.small.height = Math.max(n, 1);
    const image = new ImageData(this.small.width, this.small.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let query = 0; colour && query < n; query++) {
      for (let key = 0; key <= query; key++) pixels[query * n + key] = colour(query, key);
    }
    this.small.getContext("2d")!.putImageData(image, 0, 0);
    const size = Math.round(side * devicePixelRatio);
    if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
    const draw = this.canvas.getContext("2d")!;
    draw.imageSmoothingEnabled = false;
    draw.clearRect(0, 0, size, size);
    draw.drawImage(this.small, 0, 0, size, size);
  }
}
