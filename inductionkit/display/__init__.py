"""How head scores show themselves in a notebook or a terminal: heat maps and tables. No torch."""
