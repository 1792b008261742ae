/** What a kernel sends beside the traits: JSON and buffers. */
export type Message = (content: unknown, buffers: DataView[]) => void;

/** The little of a Jupyter model that a view needs; a saved page has a stand-in with the same methods. */
export interface Model {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, callback: Message | (() => void)): void;
  off(event: string, callback: Message | (() => void)): void;
  /** Ask the kernel; a page without one lacks this. */
  send?(content: unknown): void;
}

/** A model without a kernel behind it. */
export class PageModel implements Model {
  private readonly callbacks = new Map<string, Set<() => void>>();

  constructor(private readonly values: Record<string, unknown>) {}

  get(name: string): unknown {
    return this.values[name];
  }

  set(name: string, value: unknown): void {
    this.values[name] = value;
    for (const callback of this.callbacks.get(`change:${name}`) ?? []) callback();
  }

  save_changes(): void {}

  on(event: string, callback: () => void): void {
    const known = this.callbacks.get(event) ?? new Set();
    this.callbacks.set(event, known.add(callback));
  }

  off(event: string, callback: () => void): void {
    this.callbacks.get(event)?.delete(callback);
  }
}
