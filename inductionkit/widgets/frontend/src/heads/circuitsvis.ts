/** CircuitsVis in the page: loaded once, and its attention pattern made to change and to go. */

import type { Model } from "../common/model";

/** What React takes for an element; CircuitsVis exports no React to make one with. */
interface Element {
  type: unknown;
  props: unknown;
}

interface CircuitsVis {
  render(id: string, component: unknown, props?: object): void;
  AttentionPattern: unknown;
  Hello(props: { name: string }): Element;
}

export interface PatternProps {
  tokens: string[];
  attention: number[][];
  minValue: number;
  maxValue: number;
}

/** Jupyter's models know the others; a saved page has its CircuitsVis in its own script. */
interface ManagedModel extends Model {
  widget_manager?: { get_model(id: string): Promise<Pick<Model, "get">> };
}

const page = globalThis as { inductionkitCircuitsVis?: CircuitsVis | Promise<CircuitsVis> };

/** The one CircuitsVis of the page, by whichever view asks first. */
export async function loadCircuitsVis(model: Model): Promise<CircuitsVis> {
  page.inductionkitCircuitsVis ??= fromBundle(model).catch((error: unknown) => {
    delete page.inductionkitCircuitsVis;
    throw error;
  });
  return page.inductionkitCircuitsVis;
}

async function fromBundle(model: ManagedModel): Promise<CircuitsVis> {
  const reference = String(model.get("_circuitsvis")).replace("IPY_MODEL_", "");
  const bundle = await model.widget_manager?.get_model(reference);
  if (!bundle) throw new Error("this host does not give widgets their models, so CircuitsVis cannot be found");
  const source = await unzipped(bundle.get("_data") as DataView);
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    return ((await import(/* the host's bundler must leave this alone */ url)) as { default: CircuitsVis }).default;
  } finally {
    URL.revokeObjectURL(url);
  }
}

export async function unzipped(data: DataView): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

interface Shell {
  /** Given by React. */
  updater?: { enqueueForceUpdate(shell: Shell): void } | undefined;
}

/**
 * An attention pattern by CircuitsVis, in `element`.
 *
 * CircuitsVis' `render` can neither change nor take down what it drew, and a chart left behind keeps its
 * data. So it renders a component class of ours, which shows the latest pattern, or none.
 */
export class DrawnPattern {
  readonly element = document.createElement("div");
  private shell: Shell | undefined;
  private props: PatternProps | null = null;
  private drawings = 0;

  constructor(circuitsVis: CircuitsVis) {
    const self = this;
    class Pattern implements Shell {
      updater?: Shell["updater"];
      constructor() {
        self.shell = this;
      }
      render(): Element | null {
        // A new key is a new chart: changing the data of an old one takes longer, for it is compared.
        const made = { type: circuitsVis.AttentionPattern, props: self.props, key: String(self.drawings) };
        return self.props ? { ...circuitsVis.Hello({ name: "" }), ...made } : null;
      }
    }
    // By this React knows a class from a function.
    Object.assign(Pattern.prototype, { isReactComponent: {} });
    // It looks for the place in the document by its id, and not in a shadow root.
    this.element.id = `inductionkit-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    this.element.style.display = "none";
    document.body.append(this.element);
    circuitsVis.render(this.element.id, Pattern);
    this.element.remove();
    this.element.style.display = "";
  }

  draw(props: PatternProps | null): void {
    this.props = props;
    this.drawings++;
    if (this.shell) this.shell.updater!.enqueueForceUpdate(this.shell);
  }
}
