import { label } from "../common/format";
import { Panel } from "../common/panel";
import type { Changed } from "../common/store";
import { html } from "../common/dom";
import type { State } from "../explorer/state";
import type { Context, View } from "../explorer/view";
import { Circuit } from "./data";
import { Diagram } from "./diagram";
import { legend } from "./marks";

const FIELDS: (keyof State)[] = ["index", "head", "hover"];
const SIZES: Record<string, string> = {
  loss_effect: "a head's area: rise of the loss without it (estimated)",
  total_lift: "a head's area: its total lift",
};

/** The induction circuit at the current checkpoint. A click on a head chooses it. */
export class CircuitPanel implements View {
  readonly panel = new Panel("circuit", "Induction circuit", "");
  private readonly circuit: Circuit;
  private readonly diagram: Diagram;
  /** Each node's head, counted through the layers. */
  private readonly heads: (number | undefined)[];
  private readonly sentence = html("p", { class: "ik-sentence" });

  constructor(private readonly context: Pick<Context, "history" | "store" | "alert" | "root">) {
    const { history, store, alert } = context;
    this.circuit = new Circuit(history.header.circuit!, history.arrays);
    const { nodes, size } = this.circuit.header;
    this.heads = nodes.map((pair) => history.heads.of(pair));
    this.diagram = new Diagram(
      this.circuit,
      {
        choose: (node) => this.heads[node] !== undefined && store.set({ head: this.heads[node] }),
        hover: (node) => store.set({ hover: node === null ? null : (this.heads[node] ?? null) }),
      },
      alert,
    );
    this.panel.element.insertBefore(this.sentence, this.panel.legend);
    this.panel.legend.classList.add("ik-circuit-legend");
    this.panel.legend.append(...legend(this.circuit, this.roles));
    const widths = this.circuit.header.edges.length ? ["an edge's width: share, colour: sender"] : [];
    const told = [...(size && nodes.length ? [SIZES[size]!] : []), ...widths].join(" · ");
    if (told) this.panel.legend.append(html("span", { class: "ik-key" }, told));
    const none = html("p", { class: "ik-missing" }, "no head takes part in an induction circuit");
    this.panel.body.append(nodes.length ? this.diagram.element : none);
  }

  draw(width: number): void {
    if (this.circuit.nNodes) this.diagram.draw(width);
    this.show();
  }

  update(changed: Changed<State>): void {
    if (FIELDS.some((field) => changed.has(field))) this.show();
  }

  private show(): void {
    const { index, head, hover } = this.context.store.state;
    const node = (number: number | null): number | null => {
      const found = number === null ? -1 : this.heads.indexOf(number);
      return found < 0 ? null : found;
    };
    this.diagram.show({ step: index, chosen: node(head), hovered: node(hover) });
    const sentence = label(this.circuit.header.sentences[index]!);
    if (this.sentence.textContent !== sentence) this.sentence.textContent = sentence;
  }

  private get roles(): ReadonlySet<string> {
    const { nodes, sentences } = this.circuit.header;
    const roles = sentences.flatMap((_, step) => nodes.map((_, node) => this.circuit.role(step, node)));
    return new Set(roles.filter((role) => role !== null));
  }
}
