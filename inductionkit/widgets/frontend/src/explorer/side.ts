import type { Alert } from "../common/alert";
import type { Model } from "../common/model";
import { CurveView } from "./curves";
import { ElapsedAxis } from "./elapsed";
import { Films } from "./films";
import { GridView } from "./grid";
import type { History } from "./history";
import { fromModel, linkModel } from "./link";
import { PatternView } from "./pattern";
import { ScatterView } from "./scatter";
import { SlopeView } from "./slopes";
import { Store, type State } from "./state";
import { TextLossView } from "./text_loss";
import { TrajectoryView } from "./trajectories";
import type { Context, View } from "./view";

const [LOSS_HEIGHT, ICL_HEIGHT] = [184, 150];
/** The views over training stand below each other; only the last one names its axis. */
const OVER_TRAINING = ["loss", "icl", "slopes", "trajectories"];

/** What a reader has set in the front end alone, and keeps while the history grows. */
export type Settings = Partial<Pick<State, "search" | "score" | "across" | "up" | "colour" | "scale" | "unit">>;

/** One run: its state, its views, and its link to the model. */
export class Side {
  readonly context: Context;
  readonly views = new Map<string, View>();
  private readonly unlink: () => void;

  constructor(root: HTMLElement, model: Model, history: History, runs: readonly History[], alert: Alert, settings: Settings) {
    const store = new Store({ ...initial(history, runs), ...settings, ...fromModel(model, history) });
    store.state.query = history.lastQuery(store.state.text);
    const films = new Films(history.header.films, history.header.arrays, history.arrays, model, () => pattern?.refresh());
    const axis = new ElapsedAxis(history, runs, store.state);
    this.context = { history, runs, store, axis, films, alert, root };
    this.build();
    const pattern = this.views.get("pattern") as PatternView | undefined;
    this.unlink = linkModel(model, history, store);
  }

  get settings(): Settings {
    const { search, score, across, up, colour, scale, unit } = this.context.store.state;
    return { search, score, across, up, colour, scale, unit };
  }

  stop(): void {
    this.unlink();
    this.context.films.stop();
    this.context.store.stop();
  }

  /** The views that are asked for and have something to draw. */
  private build(): void {
    const { context } = this;
    const { history, films } = context;
    const [early, late] = history.header.iclPositions ?? [];
    const scored = history.scores.length > 0 && history.nHeads > 0;
    const drawable: Record<string, boolean> = {
      loss: Boolean(history.curve("loss") ?? history.log),
      icl: Boolean(history.curve("icl_score")),
      slopes: history.nSteps > 1 && Boolean(history.curve("slope")),
      trajectories: scored,
      grid: scored,
      scatter: history.scores.length > 1 && scored,
      pattern: films.any && history.nHeads > 0,
      text: Boolean(history.curve("text_loss")),
    };
    const shown = history.header.views.filter((view) => drawable[view]);
    const last = shown.filter((view) => OVER_TRAINING.includes(view)).at(-1);
    const builders: Record<string, () => View> = {
      loss: () =>
        new CurveView(context, {
          ...{ name: "loss", title: "Loss", unit: "nats per token", variable: "loss" },
          ...{ height: LOSS_HEIGHT, titled: last === "loss", isLoss: true },
        }),
      icl: () =>
        new CurveView(context, {
          ...{ name: "icl", title: "In-context-learning score", variable: "icl_score", height: ICL_HEIGHT },
          ...{ unit: early === undefined ? "nats per token" : `nats, token ${late} minus token ${early}`, titled: last === "icl" },
        }),
      slopes: () => new SlopeView(context, last === "slopes"),
      trajectories: () => new TrajectoryView(context),
      grid: () => new GridView(context),
      scatter: () => new ScatterView(context),
      pattern: () => new PatternView(context),
      text: () => new TextLossView(context),
    };
    for (const view of shown) this.views.set(view, builders[view]!());
  }
}

/** The state before anything is chosen; losses of a text are held against the last checkpoint before the first window. */
function initial(history: History, runs: readonly History[]): State {
  const { scores, tokens, nSteps } = history;
  const score = scores[0] ?? "";
  const start = Math.min(...runs.map(({ header }) => header.window?.[0] ?? Infinity));
  const before = Number.isFinite(start) && tokens ? tokens.findLastIndex((seen) => seen <= start) : 0;
  return {
    ...{ index: nSteps - 1, head: 0, heads: [], text: 0, hover: null, query: 0, key: null, reference: Math.max(before, 0) },
    ...{ search: "", score, across: score, up: scores[1] ?? "", colour: "layer" },
    ...{ scale: "log", unit: tokens ? "tokens" : "steps" },
  };
}
