// Elements without a framework: the page has a few hundred, all known by name, and no text of a device ever passes
// through HTML. Every text goes in as a text node, and an element is touched only when what it shows changes.

type Attributes = Record<string, string | boolean | undefined>;
type Child = Node | string;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (typeof value === "string") element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function put(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A text that only a screen reader says. */
export const unseen = (attributes: Attributes = {}): HTMLElement => el("p", { class: "unseen", ...attributes });

export function mark(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function svg(tag: string, attributes: Record<string, string>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Follows the keys of a list with elements: an element keeps its place and identity while its key lasts. */
export function follow<T, E extends Element>(
  parent: Element,
  known: Map<string, E>,
  items: T[],
  key: (item: T) => string,
  make: (item: T) => E,
  show: (element: E, item: T) => void,
): void {
  const wanted = new Set(items.map(key));
  for (const [name, element] of known) {
    if (!wanted.has(name)) {
      element.remove();
      known.delete(name);
    }
  }
  items.forEach((item, at) => {
    const name = key(item);
    let element = known.get(name);
    if (!element) {
      element = make(item);
      known.set(name, element);
    }
    show(element, item);
    if (parent.children[at] !== element) parent.insertBefore(element, parent.children[at] ?? null);
  });
}
