import { ColourScale } from "../common/colours";
import { decimal } from "../common/format";
import { HeadMap } from "../common/head_map";
import { Panel } from "../common/panel";
import { ScaleBar } from "../common/scale_bar";
import type { Changed } from "../common/store";
import { themeOf } from "../common/theme";
import { scoreChoice, scoreText } from "./scores";
import { type Field, pick, type State } from "./state";
import { type Context, sharedExtent, type View } from "./view";

const [MAX_CELL, MAX_HEIGHT] = [[56, 34], 236] as const;
const FIELDS: Field[] = ["index", "head", "heads", "hover", "score"];

/** Any score of every head at the current checkpoint, layer by head. */
export class GridView implements View {
  readonly panel = new Panel("grid", "Heads, layer by head", "");
  private readonly choice: ReturnType<typeof scoreChoice>;
  private readonly bar = new ScaleBar();
  private readonly map: HeadMap;

  constructor(private readonly context: Context) {
    const { history, store, alert } = context;
    this.choice = scoreChoice(context, "Colour", "score");
    this.panel.legend.append(this.choice.element, this.bar.element);
    const options = {
      ...{ description: "Heads, layer by head", maxCell: MAX_CELL, maxHeight: MAX_HEIGHT },
      current: () => store.state.head,
      choose: (head: number, more: boolean) => pick(store, head, more),
      hover: (hover: number | null) => store.set({ hover }),
    };
    this.map = new HeadMap(history.heads, options, alert);
    this.panel.body.append(this.map.element);
  }

  draw(width: number): void {
    this.map.resize(width);
    this.choice.show();
    this.paint();
    this.mark();
  }

  update(changed: Changed<State>): void {
    if (changed.has("score")) this.choice.show();
    if (changed.has("index") || changed.has("score")) this.paint();
    if (FIELDS.some((field) => changed.has(field))) this.mark();
  }

  private paint(): void {
    const { history, store, runs, root } = this.context;
    const { index, score } = store.state;
    const scale = ColourScale.over(themeOf(root), sharedExtent(runs, score));
    this.map.paint(scale, (head) => history.scoreAt(score, index, head), (value) => decimal(value));
    this.bar.show("", scale, (value) => decimal(value), false, history.noPreference(score));
  }

  private mark(): void {
    const { history, store } = this.context;
    const { index, head, heads, hover, score } = store.state;
    this.map.mark({ chosen: head, hover, marked: heads });
    const value = (of: number): string => scoreText(this.context, score, history.scoreAt(score, index, of));
    const shown = hover ?? head;
    this.panel.value.textContent = `${history.heads.name(shown)}: ${value(shown)}`;
    this.panel.element.dataset.head = history.heads.name(head);
    const help = "Arrow keys choose a head, shift-click highlights one.";
    this.map.overlay.setAttribute("aria-label", `Heads, layer by head. Head ${history.heads.name(head)}: ${value(head)}. ${help}`);
  }
}
