// What can be done with a message: react, reply, start a thread, delete, and the bot's message commands.

import { $, h, icon, popover } from "./dom.js";

export class Toolbar {
  constructor(app) {
    this.app = app;
    const button = (label, content, action, more = {}) =>
      h("button", { type: "button", "aria-label": label, title: label, onclick: (event) => action(event.currentTarget), ...more }, content);
    this.element = h(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Message actions" },
      button("React with 👍", "👍", () => this.react("👍")),
      button("React with 👎", "👎", () => this.react("👎")),
      button("Choose a reaction", icon("smile"), (anchor) => this.pick(anchor), { "aria-haspopup": "menu", "aria-expanded": "false" }),
      button("Reply", icon("reply"), () => this.app.composer.replyTo(this.message)),
      button("More", icon("more"), (anchor) => this.more(anchor), { "aria-haspopup": "menu", "aria-expanded": "false" }),
    );
  }

  get message() {
    return this.element.parentElement?.message;
  }

  attach(article) {
    if (this.element.parentElement === article || document.querySelector(".popover")) return;
    // Never taken from a keyboard by a mouse that passes by.
    if (this.element.querySelector(":focus-visible") && !article.contains(document.activeElement)) return;
    article.append(this.element);
    this.element.hidden = article.message.system || article.message.ephemeral;
  }

  hide() {
    this.element.remove();
  }

  react(emoji) {
    const mine = this.message.reactions.some((reaction) => reaction.key === emoji && reaction.mine);
    this.app.act("react", { message: this.message.id, emoji, on: !mine });
  }

  pick(anchor) {
    const grid = h(
      "div",
      { class: "emoji" },
      this.app.state.emoji.map((emoji) =>
        h("button", { type: "button", role: "menuitem", onclick: () => (close(), anchor.focus(), this.react(emoji)) }, emoji),
      ),
    );
    const close = popover(anchor, grid, "Reactions", 7);
  }

  more(anchor) {
    const { message, app } = this;
    const item = (label, action, style = "") =>
      h("button", { type: "button", role: "menuitem", class: style, onclick: () => (close(), anchor.focus(), action()) }, label);
    const commands = app.state.commands.message;
    const inChannel = app.here().kind === "text" && !message.thread;
    const close = popover(
      anchor,
      [
        item("Reply", () => app.composer.replyTo(message)),
        inChannel && item("Start a thread", () => this.startThread(message)),
        item("Copy text", () => navigator.clipboard?.writeText(message.text)),
        commands.length > 0 && h("p", {}, "Apps"),
        commands.map((name) => item(name, () => app.act("menu", { message: message.id, name }))),
        message.deletable && item("Delete", () => app.act("delete", { message: message.id }), "danger"),
      ].flat().filter(Boolean),
      "Message actions",
    );
  }

  startThread(message) {
    const name = h("input", { name: "name", maxlength: 100, required: true, value: message.text.slice(0, 40) || "Thread", autocomplete: "off" });
    const dialog = $("modal");
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", {}, "Start a thread"),
      h("label", {}, "Name", name),
      h("div", { class: "actions" }, h("button", { type: "button", class: "button secondary", onclick: () => dialog.close() }, "Cancel"), h("button", { class: "button primary" }, "Start")),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answer = await this.app.act("thread", { message: message.id, name: name.value });
      dialog.close();
      if (answer) this.app.open(this.app.state.me, answer.channel);
    });
    dialog.replaceChildren(form);
    dialog.setAttribute("aria-label", "Start a thread");
    dialog.showModal();
    name.select();
  }
}
