import { ColourScale } from "../common/colours";
import { decimal } from "../common/format";
import { type Axis, HeadScatter } from "../common/head_scatter";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import type { Changed } from "../common/store";
import { layerColour, themeOf } from "../common/theme";
import { scoreChoice, scoreText } from "./scores";
import { type Field, pick, type State } from "./state";
import { type Context, sharedExtent, type View, words } from "./view";

const LAYER = "layer";
const MOVING: Field[] = ["index", "head", "heads", "colour"];

/** Any two scores at the current checkpoint, one dot per head. */
export class ScatterView implements View {
  readonly panel = new Panel("scatter", "Score by score", "");
  private readonly choices: ReturnType<typeof scoreChoice>[];
  private readonly bar = new ScaleBar();
  private readonly scatter: HeadScatter;

  constructor(private readonly context: Context) {
    const { history, store, alert, root } = context;
    this.choices = [
      scoreChoice(context, "Across", "across"),
      scoreChoice(context, "Up", "up"),
      scoreChoice(context, "Colour", "colour", [LAYER]),
    ];
    this.panel.legend.append(...this.choices.map(({ element }) => element), this.bar.element);
    const options = {
      description: "Two scores of each head at the current checkpoint",
      choose: (head: number, more: boolean) => pick(store, head, more),
      hover: (hover: number | null) => store.set({ hover }),
    };
    this.scatter = new HeadScatter(this.panel.body, history.heads, root, options, alert);
  }

  draw(width?: number): void {
    const { history, runs, store } = this.context;
    const axis = (name: string): Axis => {
      const noPreference = history.noPreference(name);
      const [low, high] = sharedExtent(runs, name) ?? [0, 1];
      return { title: words(name), extent: [Math.min(low, noPreference ?? 0, 0), Math.max(high, 0.1)], noPreference };
    };
    this.scatter.drawAxes(axis(store.state.across), axis(store.state.up), width);
    for (const choice of this.choices) choice.show();
    this.move();
  }

  update(changed: Changed<State>): void {
    if (changed.has("across") || changed.has("up")) this.draw();
    else if (MOVING.some((field) => changed.has(field))) this.move();
    else if (changed.has("hover")) this.mark();
  }

  private move(): void {
    const { history, store } = this.context;
    const { index, head, across, up } = store.state;
    const at = (step: number, of: number): [number, number] => [history.scoreAt(across, step, of), history.scoreAt(up, step, of)];
    const scale = this.scale();
    this.scatter.paint({ at: (of) => at(index, of), colour: this.colours(scale), rimmed: scale !== null });
    const trail = Array.from({ length: index + 1 }, (_, step) => at(step, head));
    this.scatter.drawTrail(trail, `var(--ik-layer-${history.heads.layerIndex(head)})`);
    const place = at(index, head);
    const [x, y] = [across, up].map((name, axis) => scoreText(this.context, name, place[axis]!));
    this.panel.value.textContent = `${history.heads.name(head)}: ${place.every(Number.isFinite) ? `${x}, ${y}` : "no data"}`;
    this.panel.element.dataset.head = history.heads.name(head);
    this.mark();
  }

  private mark(): void {
    const { head, heads, hover } = this.context.store.state;
    this.scatter.mark({ chosen: head, hover, marked: heads });
  }

  /** The scale of the colours, or null where they stand for layers. */
  private scale(): ColourScale | null {
    const { store, root, runs } = this.context;
    const { colour } = store.state;
    const scale = colour === LAYER ? null : ColourScale.over(themeOf(root), sharedExtent(runs, colour));
    this.bar.element.hidden = scale === null;
    if (scale) this.bar.show("", scale, (value) => decimal(value), false, this.context.history.noPreference(colour));
    return scale;
  }

  private colours(scale: ColourScale | null): (head: number) => string {
    const { history, store, root } = this.context;
    const { index, colour } = store.state;
    const { layers } = history.header;
    const ofLayers = layers.map((_, layer) => layerColour(themeOf(root), layer, layers.length));
    return (head) => {
      if (!scale) return ofLayers[history.heads.layerIndex(head)]!;
      const value = history.scoreAt(colour, index, head);
      return Number.isNaN(value) ? "transparent" : scale.css(value);
    };
  }
}
