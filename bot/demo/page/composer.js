// Writing: the message box, replies, and the pickers for slash commands and mentions.

import { CommandForm } from "./command.js";
import { $, h, icon } from "./dom.js";
import { Suggestions } from "./suggestions.js";

export class Composer {
  constructor(app) {
    this.app = app;
    this.reply = null;
    this.box = h("textarea", { id: "box", rows: 1, maxlength: 2000, autocomplete: "off", role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false" });
    this.suggestions = new Suggestions(this.box);
    this.box.addEventListener("input", () => (this.grow(), this.look()));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("blur", () => setTimeout(() => this.suggestions.hide(), 150));
    this.sender = h("button", { class: "send", "aria-label": "Send" }, icon("send"));
    this.form = h("form", { class: "write" }, this.box, this.sender);
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.send()));
    this.above = h("div", { class: "above" });
    $("composer").append(this.suggestions.element, this.above, this.form);
  }

  reset(moved) {
    if (moved) {
      this.cancelCommand();
      this.replyTo(null);
    }
    this.refresh();
  }

  refresh() {
    const { kind, name, writable } = this.app.here();
    const bot = this.app.state.bot.name;
    const hint = innerWidth < 720 ? "" : `. Start with @${bot}, or type / for commands`;
    const where = kind === "dm" ? `Message ${name}` : `Message #${name}${hint}`;
    // The box stays open where writing is not allowed: what Discord says then is worth seeing.
    this.box.placeholder = writable ? where : `You may read #${name}, not write`;
    this.box.setAttribute("aria-label", this.box.placeholder);
  }

  // Put `text` into the box, ready to be sent.
  suggest(text) {
    this.cancelCommand();
    this.box.value = text;
    this.grow();
    this.box.focus();
    this.look();
  }

  replyTo(message) {
    this.reply = message;
    this.above.replaceChildren(
      ...(message
        ? [h("p", {}, "Replying to ", h("b", {}, message.author.name)), h("button", { type: "button", class: "icon", "aria-label": "Stop replying", onclick: () => this.replyTo(null) }, icon("close"))]
        : []),
    );
    if (message) this.box.focus();
  }

  async send() {
    const text = this.box.value;
    if (!text.trim()) return;
    const reply = this.reply?.id;
    this.box.value = "";
    this.replyTo(null);
    this.grow();
    const sent = await this.app.act("send", reply ? { text, reply } : { text });
    if (!sent && !this.box.value) this.suggest(text);
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight, 180)}px`;
  }

  key(event) {
    // Enter that ends a Chinese or Japanese composition is not a command.
    if (event.isComposing || event.keyCode === 229) return;
    if (this.suggestions.key(event)) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape" && this.reply) this.replyTo(null);
    else if (event.key === "ArrowUp" && !this.box.value) {
      event.preventDefault();
      $("log").querySelector(".message:last-of-type")?.focus();
    }
  }

  // Offer what fits the text at the caret.
  look() {
    const text = this.box.value;
    if (/^\/[^\n]*$/.test(text)) return this.offerCommands(text.slice(1).trim().toLowerCase());
    const typed = text.slice(0, this.box.selectionStart).match(/(?:^|\s)@([^\s@]{0,20})$/);
    if (!typed) return this.suggestions.hide();
    const people = [this.app.state.bot, ...this.app.state.people].filter(({ name }) => name.toLowerCase().includes(typed[1].toLowerCase()));
    this.suggestions.show(
      "Mention",
      people.map((person) => ({ label: `@${person.name}`, hint: person.tag || person.role, pick: () => this.complete(typed[1].length + 1, `@${person.name} `) })),
    );
  }

  complete(length, text) {
    const at = this.box.selectionStart;
    this.box.setRangeText(text, at - length, at, "end");
    this.suggestions.hide();
    this.box.focus();
  }

  offerCommands(typed) {
    const fitting = this.app.state.commands.slash.filter(({ name }) => name.startsWith(typed) || (typed && name.includes(typed)));
    fitting.sort((a, b) => Number(b.name.startsWith(typed)) - Number(a.name.startsWith(typed)));
    this.suggestions.show(
      "Commands",
      fitting.map((command) => ({ label: `/${command.name}`, hint: command.description, pick: () => this.start(command) })),
      "No command here fits. Members and moderators have different ones.",
    );
  }

  start(command) {
    this.suggestions.hide();
    this.box.value = "";
    this.grow();
    this.cancelCommand();
    this.command = new CommandForm(this.app, command, () => (this.cancelCommand(), this.box.focus()));
    this.form.hidden = true;
    $("composer").append(this.command.element);
    this.command.focus();
  }

  cancelCommand() {
    this.command?.element.remove();
    this.command = null;
    this.form.hidden = false;
  }
}
