import type { Alert } from "../common/alert";
import { setAll } from "../common/dom";
import type { Store } from "../common/store";
import { dragged, keyed, type Rotation } from "./rotation";

/** Let an element be turned by dragging and by the arrow keys. */
export function turnable<S extends { rotation: Rotation }>(element: SVGElement, store: Store<S>, alert: Alert): void {
  const set = (rotation: Rotation): void => store.set({ rotation } as Partial<S>);
  setAll(element, { tabindex: 0, role: "application", "aria-roledescription": "view that the arrow keys turn" });
  element.classList.add("is-turnable");
  let from: [number, number] | null = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button === 0) from = [event.clientX, event.clientY];
  });
  element.addEventListener(
    "pointermove",
    alert.guard((event: PointerEvent) => {
      if (!from || !event.buttons) return;
      // Captured only now: a press without a move is a click on what lies below.
      element.setPointerCapture(event.pointerId);
      set(dragged(store.state.rotation, event.clientX - from[0], event.clientY - from[1]));
      from = [event.clientX, event.clientY];
    }),
  );
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (from = null));
  element.addEventListener(
    "keydown",
    alert.guard((event: KeyboardEvent) => {
      const rotation = keyed(store.state.rotation, event.key);
      if (!rotation) return;
      event.preventDefault();
      set(rotation);
    }),
  );
}
