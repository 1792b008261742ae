import type { Message, Model } from "../common/model";

/** What one side of a comparison sees of its model: its own traits, kept in one trait of the whole. */
export class SideModel implements Model {
  private pending: Record<string, unknown> = {};
  private readonly messages = new Map<Message | (() => void), Message>();
  readonly send?: (content: unknown) => void;

  constructor(
    private readonly model: Model,
    private readonly trait: string,
    private readonly side: number,
  ) {
    if (model.send) this.send = (content) => model.send!({ ...(content as object), side });
  }

  get(name: string): unknown {
    return { ...(this.model.get(this.trait) as Record<string, unknown>), ...this.pending }[name];
  }

  set(name: string, value: unknown): void {
    this.pending[name] = value;
  }

  save_changes(): void {
    const { pending } = this;
    this.pending = {};
    this.model.set(this.trait, { ...(this.model.get(this.trait) as object), ...pending });
    this.model.save_changes();
  }

  on(event: string, callback: Message | (() => void)): void {
    if (event !== "msg:custom") return this.model.on(`change:${this.trait}`, callback);
    const ours: Message = (content, buffers) => {
      if ((content as { side?: number } | null)?.side === this.side) callback(content, buffers);
    };
    this.messages.set(callback, ours);
    this.model.on(event, ours);
  }

  off(event: string, callback: Message | (() => void)): void {
    this.model.off(event === "msg:custom" ? event : `change:${this.trait}`, this.messages.get(callback) ?? callback);
  }
}
