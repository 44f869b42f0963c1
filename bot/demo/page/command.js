// A slash command being filled in: one field an option, with choices, ranges and the bot's own autocomplete.

import { h, icon } from "./dom.js";
import { choices, drawOptions } from "./parts.js";
import { Suggestions } from "./suggestions.js";

const TYPE_DELAY_MS = 150;
const ENTITIES = { 6: 5, 7: 8, 8: 6, 9: 7 }; // option type -> select type

export class CommandForm {
  constructor(app, command, close) {
    Object.assign(this, { app, command, close, readers: new Map() });
    this.element = h(
      "form",
      { class: "command", "aria-label": `Command ${command.name}` },
      h("b", { class: "command-name", title: command.description }, `/${command.name}`),
      command.options.map((option) => this.field(option)),
      h("span", { class: "buttons" }, h("button", { class: "button primary" }, "Run"), h("button", { type: "button", class: "icon", "aria-label": "Cancel the command", onclick: close }, icon("close"))),
    );
    this.element.addEventListener("submit", (event) => (event.preventDefault(), this.run()));
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && close());
  }

  focus() {
    (this.element.querySelector("input, select") ?? this.element.querySelector("button")).focus();
  }

  values() {
    const values = {};
    for (const [name, read] of this.readers) {
      const value = read();
      if (value !== undefined && value !== "") values[name] = value;
    }
    return values;
  }

  async run() {
    const answer = await this.app.act("slash", { name: this.command.name, options: this.values() });
    if (!answer) return;
    this.app.steps.ran(this.command.name);
    this.close();
  }

  field(option) {
    const id = `option-${option.name}`;
    const input = this.input(option, id);
    return h("div", { class: "option" }, h("label", { for: id, title: option.description }, option.name, option.required && h("span", { class: "required", "aria-hidden": "true" }, " *")), input);
  }

  input(option, id) {
    const common = { id, required: option.required, "aria-description": option.description };
    const select = (options) => {
      const element = drawOptions(h("select", common), options, option.required ? "Choose" : "—");
      this.readers.set(option.name, () => element.value);
      return element;
    };
    if (option.type === 5) {
      const element = select([{ value: "true", label: "True" }, { value: "false", label: "False" }]);
      this.readers.set(option.name, () => (element.value ? element.value === "true" : undefined));
      return element;
    }
    if (option.type in ENTITIES) return select(choices(this.app, { type: ENTITIES[option.type], channel_types: option.channel_types }));
    if (option.choices?.length) return select(option.choices.map(({ name, value }) => ({ label: name, value: String(value) })));
    if (option.type === 11) return h("span", { class: "dim", id }, "files can't be sent here");
    const number = option.type === 4 || option.type === 10;
    const limits = number ? { type: "number", min: option.min_value, max: option.max_value, step: option.type === 4 ? 1 : "any" } : { minlength: option.min_length, maxlength: option.max_length };
    const element = h("input", { ...common, ...limits, autocomplete: "off", placeholder: option.description });
    this.readers.set(option.name, () => element.dataset.value ?? element.value.trim());
    return option.autocomplete ? this.autocompleted(option, element) : element;
  }

  autocompleted(option, element) {
    const list = new Suggestions(element);
    let timer;
    const ask = async () => {
      const typed = element.value;
      const filled = Object.fromEntries(Object.entries(this.values()).filter(([name]) => name !== option.name));
      const answer = await this.app.act("autocomplete", { name: this.command.name, option: option.name, value: typed, filled });
      if (!answer || element.value !== typed || document.activeElement !== element) return;
      list.show(`Choices for ${option.name}`, answer.choices.map(({ name, value }) => ({
        label: name,
        pick: () => {
          element.value = name;
          element.dataset.value = String(value);
          list.hide();
        },
      })));
    };
    element.addEventListener("input", () => {
      delete element.dataset.value;
      clearTimeout(timer);
      timer = setTimeout(ask, TYPE_DELAY_MS);
    });
    element.addEventListener("focus", ask);
    element.addEventListener("blur", () => setTimeout(() => list.hide(), 150));
    element.addEventListener("keydown", (event) => list.key(event));
    element.setAttribute("role", "combobox");
    return h("span", { class: "completed" }, list.element, element);
  }
}
