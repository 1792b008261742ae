import { html } from "../common/dom";
import { label } from "../common/format";
import { headsTrait, headTrait } from "../common/heads";
import { initialState, oneOf, type Trait } from "../common/link";
import { inColumns, mounted } from "../common/shell";
import type { View } from "../common/stage";
import { Store } from "../common/store";
import { heading } from "./heading";
import styles from "./heads.css";
import { number, spaced } from "./numbers";
import { Maps } from "./scan_maps";
import { type Context, type Header, Scan, type State } from "./scan_data";
import { ScoreScatter } from "./scan_scatter";
import { HeadTable } from "./scan_table";

/** HeadScan. */
export const mount = mounted<State>(styles, (root, model, alert) => {
  const scan = new Scan(model.get("_header") as Header, model.get("_data") as DataView);
  const { heads } = scan;
  const names = scan.scores.map((score) => score.name);
  const traits: Trait<State>[] = [headTrait(heads, "head"), headsTrait(heads, "marked"), oneOf("x", "x", names), oneOf("y", "y", names)];
  const store = new Store(initialState<State>(model, traits, { head: 0, hover: null, marked: [], x: 0, y: 0 }));
  const context: Context = { scan, store, alert, root };
  const maps = new Maps(context);
  const table = new HeadTable(context);
  const scatter = scan.axes.length > 1 ? new ScoreScatter(context) : undefined;
  const readout = html("p", { class: "ik-sr", role: "status" });
  const size = `${count(heads.layers.length, "layer")} of ${count(heads.numbers.length, "head")}`;
  const right: View<State>[] = [...(scatter ? [scatter] : []), table];
  root.append(heading(scan.header.model, size), inColumns([maps], right), readout);
  return {
    ...{ store, traits, views: [maps, ...right], nLayers: heads.layers.length },
    changed: () => {
      const { head, marked } = store.state;
      const told = scan.scores.map((score) => `${spaced(label(score.name))} ${number(score.values[head], score.digits)}`);
      const about = [...scan.role(head).slice(0, 1), ...(marked.includes(head) ? ["marked"] : [])];
      const text = `${[`head ${heads.name(head)}`, ...about].join(", ")}: ${told.join(", ")}`;
      // A live region speaks whenever it is written to.
      if (readout.textContent !== text) readout.textContent = text;
      root.dataset.head = heads.name(head);
      root.dataset.heads = marked.map((one) => heads.name(one)).join(" ");
    },
  };
});

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
