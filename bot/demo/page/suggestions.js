// A listbox over a text field: arrow keys choose, Enter or Tab picks, Escape closes. The field keeps the focus.

import { h } from "./dom.js";

let count = 0;

export class Suggestions {
  constructor(field) {
    this.field = field;
    this.id = `suggestions-${++count}`;
    this.items = [];
    this.element = h("div", { class: "suggestions", role: "listbox", id: this.id, hidden: true });
    // The press must not take the focus from the field.
    this.element.addEventListener("pointerdown", (event) => event.preventDefault());
    field.setAttribute("aria-controls", this.id);
  }

  show(label, items, none) {
    this.items = items;
    this.element.setAttribute("aria-label", label);
    this.element.replaceChildren(
      h("p", { "aria-hidden": "true" }, label),
      ...items.map((item, index) =>
        h("div", { role: "option", id: `${this.id}-${index}`, onclick: () => item.pick() }, h("b", {}, item.label), item.hint && h("span", {}, item.hint)),
      ),
      ...(items.length || !none ? [] : [h("p", { class: "none" }, none)]),
    );
    this.element.hidden = !items.length && !none;
    this.field.setAttribute("aria-expanded", String(!this.element.hidden));
    this.choose(0);
  }

  hide() {
    this.items = [];
    this.element.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
    this.field.removeAttribute("aria-activedescendant");
  }

  choose(index) {
    if (!this.items.length) return;
    this.index = (index + this.items.length) % this.items.length;
    [...this.element.querySelectorAll("[role=option]")].forEach((option, at) => {
      option.setAttribute("aria-selected", String(at === this.index));
      if (at === this.index) option.scrollIntoView({ block: "nearest" });
    });
    this.field.setAttribute("aria-activedescendant", `${this.id}-${this.index}`);
  }

  // Handle a key of the field; returns whether it was used.
  key(event) {
    if (this.element.hidden) return false;
    if (event.key === "Escape") this.hide();
    else if (!this.items.length) return false;
    else if (event.key === "ArrowDown") this.choose(this.index + 1);
    else if (event.key === "ArrowUp") this.choose(this.index - 1);
    else if ((event.key === "Enter" && !event.shiftKey) || event.key === "Tab") this.items[this.index].pick();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }
}
