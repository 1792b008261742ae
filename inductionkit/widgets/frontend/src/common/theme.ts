import { between, type Colour } from "./colours";

export type Theme = "light" | "dark";

/** Told apart by colour-blind readers, and none of them blue, orange or pink: these mean better, worse and chosen. */
const FEW_LAYERS: Record<Theme, string[]> = {
  light: ["#00856a", "#6f42c1", "#7a6a00"],
  dark: ["#2fc39b", "#b79cff", "#e6d84a"],
};
/** Viridis, at even distances. */
const VIRIDIS: Colour[] = [
  [68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37],
];
/** The part of it that contrasts with the ground. */
const MANY_LAYERS: Record<Theme, [number, number]> = { light: [0, 0.75], dark: [0.3, 1] };

/** The host's theme: JupyterLab, VS Code and Colab say theirs, anywhere else the reader's system decides. */
export function hostTheme(element: Element): Theme {
  // Jupyter renders a widget before it puts it on the page; the body already tells.
  const place = element.isConnected ? element : document.body;
  const jupyter = place.closest("[data-jp-theme-light]")?.getAttribute("data-jp-theme-light");
  if (jupyter) return jupyter === "false" ? "dark" : "light";
  const { body, documentElement: page } = document;
  if (body.classList.contains("vscode-light")) return "light";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return "dark";
  const named = page.getAttribute("theme") ?? page.dataset.theme;
  if (named === "dark" || named === "light") return named;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** The theme that `followTheme` has set on a widget's root. */
export function themeOf(root: HTMLElement): Theme {
  return root.dataset.theme === "dark" ? "dark" : "light";
}

/** Follow the host's theme: sets the palette on `root`, calls `changed` after each change, returns a stop. */
export function followTheme(root: HTMLElement, nLayers: number, changed: () => void): () => void {
  const apply = (): void => {
    const theme = hostTheme(root);
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    for (let layer = 0; layer < nLayers; layer++) {
      root.style.setProperty(`--ik-layer-${layer}`, layerColour(theme, layer, nLayers));
    }
    changed();
  };
  const media = matchMedia("(prefers-color-scheme: dark)");
  const observer = new MutationObserver(apply);
  media.addEventListener("change", apply);
  for (const element of [document.body, document.documentElement]) observer.observe(element, { attributes: true });
  apply();
  return () => {
    media.removeEventListener("change", apply);
    observer.disconnect();
  };
}

/** The colour of a layer, counted from 0, of so many. */
export function layerColour(theme: Theme, layer: number, nLayers: number): string {
  const few = FEW_LAYERS[theme];
  if (nLayers <= few.length) return few[layer]!;
  const [low, high] = MANY_LAYERS[theme];
  return `rgb(${between(VIRIDIS, low + ((high - low) * layer) / (nLayers - 1)).join(", ")})`;
}
