import { mount } from "./explorer";
import { PageModel } from "./model";

/** Show what a saved page carries: its traits as JSON, its payload compressed. */
export async function mountPage(root: HTMLElement): Promise<void> {
  const state = JSON.parse(document.getElementById("inductionkit-state")!.textContent!) as Record<string, unknown>;
  const encoded = atob(document.getElementById("inductionkit-data")!.textContent!);
  const compressed = Uint8Array.from(encoded, (character) => character.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new DataView(await new Response(stream).arrayBuffer());
  mount(root, new PageModel({ ...state, _data: data }));
}
