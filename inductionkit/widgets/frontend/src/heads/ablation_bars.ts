import { scaleLinear } from "d3-scale";
import { extent } from "../common/arrays";
import { html } from "../common/dom";
import { shortened } from "../common/format";
import { Panel } from "../common/panel";
import type { View } from "../common/stage";
import type { Changed } from "../common/store";
import { type Context, kindName, metricTitle, type State } from "./ablation_data";

const MOVES: Record<string, number> = { ArrowDown: 1, ArrowUp: -1 };

/** The change by zeroing each set of heads, a bar for each kind of ablation. */
export class ChangeBars implements View<State> {
  readonly panel = new Panel("bars");
  private readonly rows: HTMLButtonElement[];

  constructor(private readonly context: Context) {
    const { data, store, alert } = context;
    this.rows = Array.from({ length: data.nUnits }, (_, unit) => {
      const name = data.name(unit);
      const row = html(
        "button",
        { type: "button", class: "ik-set-row", "data-unit": name, title: name },
        html("span", { class: "ik-set-name" }, shortened(name)),
        html("span", { class: "ik-set-track" }),
        html("span", { class: "ik-set-value" }),
      );
      row.addEventListener("click", alert.guard(() => store.set({ unit })));
      row.addEventListener("pointerenter", () => store.set({ hover: unit }));
      row.addEventListener("pointerleave", () => store.set({ hover: null }));
      return row;
    });
    const list = html("div", { class: "ik-set-rows", role: "group", "aria-label": "Sets of heads zeroed together" }, ...this.rows);
    list.addEventListener("keydown", alert.guard((event: KeyboardEvent) => this.move(event)));
    this.panel.body.append(list);
    if (data.header.kinds.length > 1) {
      for (const [kind, name] of data.header.kinds.entries()) this.panel.addLegend(`bar-${kind}`, `${kindName(name)} ablation`);
    }
  }

  draw(): void {
    const { data, store } = this.context;
    const { step, metric } = store.state;
    const [low, high] = extent([0, ...this.rows.flatMap((_, unit) => data.changes(metric, step, unit))])!;
    const place = scaleLinear().domain([low, high > low ? high : 1]).range([0, 100]);
    for (const [unit, row] of this.rows.entries()) {
      const changes = data.changes(metric, step, unit);
      const bars = changes.map((change, kind) => {
        const bar = html("i", { class: `ik-set-fill ik-bar-${kind}` });
        const [from, to] = [place(0), place(Number.isFinite(change) ? change : 0)];
        Object.assign(bar.style, { left: `${Math.min(from, to)}%`, width: `${Math.abs(to - from)}%` });
        return bar;
      });
      const zero = html("b");
      zero.style.left = `${place(0)}%`;
      row.querySelector(".ik-set-track")!.replaceChildren(...bars, zero);
      row.querySelector(".ik-set-value")!.textContent = changes.map((change) => data.text(metric, change)).join(" / ");
    }
    this.panel.entitle(metricTitle(data.header.metrics[metric]!), "nats per token; above 0 is worse without");
    this.point();
  }

  update(changed: Changed<State>): void {
    if (changed.has("step") || changed.has("metric")) this.draw();
    else this.point();
  }

  private point(): void {
    const { unit, hover } = this.context.store.state;
    for (const [own, row] of this.rows.entries()) {
      row.setAttribute("aria-pressed", String(own === unit));
      row.classList.toggle("is-hovered", own === hover);
    }
  }

  private move(event: KeyboardEvent): void {
    const next = this.context.store.state.unit + (MOVES[event.key] ?? NaN);
    if (!this.rows[next]) return;
    event.preventDefault();
    this.context.store.set({ unit: next });
    this.rows[next].focus();
  }
}
