import type { Alert } from "../common/alert";
import { html } from "../common/dom";
import { label } from "../common/format";
import type { Model } from "../common/model";
import { link, type Trait } from "./link";
import { number, spaced } from "./numbers";
import { Maps } from "./scan_maps";
import { type Context, type Header, Scan, type State } from "./scan_data";
import { ScoreScatter } from "./scan_scatter";
import { HeadTable } from "./scan_table";
import { type Built, heading, mountViews, type View } from "./shell";
import { Store } from "./store";

/** Show a scan in `container`. Returns what takes it down. */
export function mount(container: HTMLElement, model: Model): () => void {
  return mountViews(container, model, build);
}

function build(root: HTMLElement, model: Model, alert: Alert): Built<State> {
  const scan = new Scan(model.get("_header") as Header, model.get("_data") as DataView);
  const { heads } = scan;
  const traits = (store: () => State): Trait<State>[] => [
    {
      ...{ name: "head", field: "head", toModel: () => heads.pair(store().head) },
      fromModel: (pair) => patch("head", heads.of(pair)),
    },
    {
      ...{ name: "heads", field: "marked", toModel: () => store().marked.map((head) => heads.pair(head)) },
      fromModel: (pairs) => ({ marked: ((pairs as unknown[]) ?? []).map((pair) => heads.of(pair)!) }),
    },
    { name: "x", field: "x", toModel: () => scan.scores[store().x]!.name, fromModel: (name) => ({ x: scan.indexOf(name) }) },
    { name: "y", field: "y", toModel: () => scan.scores[store().y]!.name, fromModel: (name) => ({ y: scan.indexOf(name) }) },
  ];
  const store = new Store<State>({ head: 0, hover: null, marked: [], x: 0, y: 0 });
  const linked = traits(() => store.state);
  for (const { name, fromModel } of linked) Object.assign(store.state, fromModel(model.get(name)));

  const context: Context = { scan, store, alert, root };
  const maps = new Maps(context);
  const table = new HeadTable(context);
  const scatter = scan.axes.length > 1 ? new ScoreScatter(context) : undefined;
  const readout = html("p", { class: "ik-sr", role: "status" });
  const right = html("div", { class: "ik-column" }, ...(scatter ? [scatter.panel.element] : []), table.panel.element);
  const size = `${count(heads.layers.length, "layer")} of ${count(heads.numbers.length, "head")}`;
  const left = html("div", { class: "ik-column" }, maps.panel.element);
  root.append(heading(scan.header.model, size), html("div", { class: "ik-grid" }, left, right), readout);

  const views: View<State>[] = [maps, ...(scatter ? [scatter] : []), table];
  return {
    store,
    views,
    nLayers: heads.layers.length,
    stop: link(model, store, linked),
    changed: () => {
      const { head, marked } = store.state;
      const told = scan.scores.map((score) => `${spaced(label(score.name))} ${number(score.values[head], score.digits)}`);
      const text = `head ${heads.name(head)}${marked.includes(head) ? ", marked" : ""}: ${told.join(", ")}`;
      // A live region speaks whenever it is written to.
      if (readout.textContent !== text) readout.textContent = text;
      root.dataset.head = heads.name(head);
      root.dataset.heads = marked.map((one) => heads.name(one)).join(" ");
    },
  };
}

function patch<Field extends keyof State>(field: Field, value: State[Field] | undefined): Partial<State> | undefined {
  return value === undefined ? undefined : ({ [field]: value } as unknown as Partial<State>);
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
