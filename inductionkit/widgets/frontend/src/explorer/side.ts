import type { Alert } from "../common/alert";
import { CircuitPanel } from "../circuit/panel";
import { integer } from "../common/format";
import { link } from "../common/link";
import type { Model } from "../common/model";
import { explain } from "./captions";
import { CurveView } from "./curves";
import { ElapsedAxis } from "./elapsed";
import { PatternSeries } from "./pattern_series";
import { GridView } from "./grid";
import type { History } from "./history";
import { PatternView } from "./pattern";
import { ScatterView } from "./scatter";
import { SlopeView } from "./slopes";
import { openStore, type Settings, traitsOf } from "./state";
import { TextLossView } from "./text_loss";
import { TrajectoryView } from "./trajectories";
import type { Context, View } from "./view";

const [LOSS_HEIGHT, ICL_HEIGHT] = [184, 150];
/** The views over training stand below each other; only the last one names its axis. */
const OVER_TRAINING = ["loss", "icl", "slopes", "trajectories"];

/** One run: its state, its views, and its link to the model. */
export class Side {
  readonly context: Context;
  readonly views = new Map<string, View>();
  /** Called when a pattern has arrived that was asked for. */
  readonly onPattern: (() => void)[] = [];
  private readonly unlink: () => void;

  constructor(root: HTMLElement, model: Model, history: History, runs: readonly History[], alert: Alert, settings: Settings) {
    const store = openStore(model, history, runs, settings);
    const series = new PatternSeries(history.header.series, history.header.arrays, history.arrays, model, () => this.onPattern.forEach((refresh) => refresh()));
    const axis = new ElapsedAxis(history, runs, store.state);
    this.context = { history, runs, store, axis, series, alert, root };
    this.build();
    const pattern = this.views.get("pattern") as PatternView | undefined;
    if (pattern) this.onPattern.push(() => pattern.refresh());
    this.unlink = link(model, store, traitsOf(history));
  }

  get settings(): Settings {
    const { search, score, across, up, colour, scale, unit } = this.context.store.state;
    return { search, score, across, up, colour, scale, unit };
  }

  stop(): void {
    this.unlink();
    this.context.series.stop();
    this.context.store.stop();
  }

  /** The views that are asked for and have something to draw. */
  private build(): void {
    const { context } = this;
    const { history, series } = context;
    const [early, late] = history.header.iclPositions ?? [];
    const { nExamples } = history.header;
    const examples = nExamples ? `, ${integer(nExamples)} held-out examples` : "";
    const scored = history.scores.length > 0 && history.heads.n > 0;
    const drawable: Record<string, boolean> = {
      loss: Boolean(history.curve("loss") ?? history.log),
      icl: Boolean(history.curve("icl_score")),
      slopes: history.nSteps > 1 && Boolean(history.curve("loss slope")),
      trajectories: scored,
      grid: scored,
      scatter: history.scores.length > 1 && scored,
      circuit: history.header.circuit !== undefined,
      pattern: series.any && history.heads.n > 0,
      text: Boolean(history.curve("text_loss")),
    };
    const shown = history.header.views.filter((view) => drawable[view]);
    const last = shown.filter((view) => OVER_TRAINING.includes(view)).at(-1);
    const builders: Record<string, () => View> = {
      loss: () =>
        new CurveView(context, {
          ...{ name: "loss", title: "Loss", unit: "nats per token", variable: "loss" },
          ...{ height: LOSS_HEIGHT, titled: last === "loss", isLoss: true, logged: true },
        }),
      icl: () =>
        new CurveView(context, {
          ...{ name: "icl", title: "In-context-learning score", variable: "icl_score", height: ICL_HEIGHT },
          ...{ unit: `nats${early === undefined ? " per token" : `, token ${late} minus token ${early}`}${examples}`, titled: last === "icl" },
        }),
      slopes: () => new SlopeView(context, last === "slopes"),
      trajectories: () => new TrajectoryView(context),
      grid: () => new GridView(context),
      scatter: () => new ScatterView(context),
      circuit: () => new CircuitPanel(context),
      pattern: () => new PatternView(context),
      text: () => new TextLossView(context),
    };
    for (const view of shown) this.views.set(view, builders[view]!());
    for (const { panel } of this.views.values()) explain(panel);
  }
}
