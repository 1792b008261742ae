import { readArrays, type Entry, type Values } from "../common/arrays";
import type { Model } from "../common/model";

/** The series of patterns that travelled with the widget: a head and a text each, at some of the checkpoints. */
export interface SeriesHeader {
  heads_texts: [number, number][];
  steps: number[];
}

/** What one head does with one text at one checkpoint. */
export interface Pattern {
  /** The lower triangle, row by row, 0 … 255. */
  attention: Values;
  /** OV logit lift of each token, in nats. */
  lift: Values | undefined;
}

/** How many asked-for patterns are kept: those of a text of 512 tokens take 17 MB. */
const KEPT = 128;
/** After this long without an answer there is no kernel. */
const PATIENCE_MS = 5000;

/** Attention patterns: those that came along, and those that the kernel sends when asked, one question at a time. */
export class PatternSeries {
  private readonly series = new Map<string, number>();
  private readonly place = new Map<number, number>();
  private readonly kept = new Map<string, Pattern>();
  private readonly attention: Values | undefined;
  private readonly lift: Values | undefined;
  private asked: string | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private silent: boolean;

  /** `changed` is called when a pattern has arrived, or will not. */
  constructor(
    private readonly header: SeriesHeader | null,
    entries: Entry[],
    arrays: ReadonlyMap<string, Values>,
    private readonly model: Model,
    private readonly changed: () => void,
  ) {
    for (const [series, place] of header?.heads_texts.entries() ?? []) this.series.set(String(place), series);
    for (const [place, index] of header?.steps.entries() ?? []) this.place.set(index, place);
    this.attention = arrays.get("pattern");
    this.lift = arrays.get("ov_lift");
    this.sizes = Object.fromEntries(entries.map(({ name, shape }) => [name, shape.at(-1)!]));
    this.silent = model.send === undefined;
    model.on("msg:custom", this.take);
  }

  private readonly sizes: Record<string, number>;

  get any(): boolean {
    return this.header !== null;
  }

  get anyLift(): boolean {
    return this.lift?.some(Number.isFinite) ?? false;
  }

  /** A pattern, or whether it has been asked for or cannot be had. */
  get(index: number, head: number, text: number): Pattern | "asked" | "absent" {
    const [series, place] = [this.series.get(`${head},${text}`), this.place.get(index)];
    if (series !== undefined && place !== undefined) {
      const at = series * this.header!.steps.length + place;
      const part = (values: Values | undefined, size = 0) => values?.subarray(at * size, (at + 1) * size);
      return { attention: part(this.attention, this.sizes.pattern)!, lift: part(this.lift, this.sizes.ov_lift) };
    }
    const question = `${index},${head},${text}`;
    const known = this.kept.get(question);
    if (known) return known;
    if (this.silent) return "absent";
    // While an answer is on its way nothing else is asked: a slider that moves would leave the kernel behind.
    if (this.asked === null) this.ask(question);
    return "asked";
  }

  stop(): void {
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.take);
  }

  private ask(question: string): void {
    this.asked = question;
    const giveUp = (): void => {
      [this.silent, this.asked] = [true, null];
      this.changed();
    };
    this.timer = setTimeout(giveUp, PATIENCE_MS);
    try {
      this.model.send!({ pattern: question.split(",").map(Number) });
    } catch {
      // The kernel is gone, and the host says so at once. Not here: whoever asked is in the midst of drawing.
      clearTimeout(this.timer);
      this.timer = setTimeout(giveUp);
    }
  }

  private readonly take = (content: unknown, buffers: DataView[]): void => {
    const place = (content as { pattern?: number[] } | null)?.pattern;
    if (!place || !buffers[0]) return;
    clearTimeout(this.timer);
    [this.asked, this.silent] = [null, false];
    const [attention, lift] = buffers.map((buffer, part) => {
      const dtype = part ? "float32" : "uint8";
      const shape = [buffer.byteLength / (part ? 4 : 1)];
      return readArrays([{ name: "", dtype, shape, offset: 0 }], buffer).get("")!;
    });
    this.kept.set(String(place), { attention: attention!, lift });
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value!);
    this.changed();
  };
}

/** Attention of one query to keys 0 … query. */
export function row({ attention }: Pattern, query: number): Values {
  const start = (query * (query + 1)) / 2;
  return attention.subarray(start, start + query + 1);
}
