// The side panels: who you are, the channel list, what to try, and the figures from the store.

import { $, avatar, h, icon } from "./dom.js";

export function drawPeople(app) {
  const focused = $("who").contains(document.activeElement);
  $("who").replaceChildren(
    ...app.state.people.map((person) => {
      const chosen = person.id === app.state.me;
      return h(
        "button",
        {
          type: "button",
          role: "radio",
          "aria-checked": String(chosen),
          tabindex: chosen ? 0 : -1,
          class: "person",
          onclick: () => app.open(person.id, app.state.channel),
          onkeydown: (event) => {
            const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
            if (!step) return;
            event.preventDefault();
            const all = app.state.people;
            app.open(all[(all.indexOf(person) + step + all.length) % all.length].id, app.state.channel);
          },
        },
        avatar(person),
        h("span", {}, h("b", {}, person.name), h("small", {}, person.role)),
      );
    }),
  );
  if (focused) $("who").querySelector("[aria-checked=true]").focus();
}

export function drawChannels(app) {
  const { channels, channel: open } = app.state;
  const focused = document.activeElement?.dataset?.channel;
  const link = (channel) =>
    h(
      "button",
      {
        type: "button",
        class: `channel ${channel.kind}${app.unread.has(channel.id) ? " unread" : ""}`,
        "aria-current": channel.id === open ? "page" : null,
        data: { channel: channel.id },
        onclick: () => {
          app.drawer("side", false);
          app.open(app.state.me, channel.id);
        },
      },
      channel.kind === "dm" ? avatar(app.state.bot) : h("span", { class: "hash", "aria-hidden": "true" }, channel.kind === "thread" ? "↳" : "#"),
      h("span", { class: "label" }, channel.name),
      channel.private && icon("lock"),
      channel.private && h("span", { class: "unseen" }, "(private)"),
      app.unread.has(channel.id) && h("span", { class: "unseen" }, "(new messages)"),
    );
  const list = (label, items) => [h("h2", {}, label), h("ul", {}, items.map((item) => h("li", {}, item)))];
  const threads = (parent) => channels.filter((channel) => channel.kind === "thread" && channel.parent === parent.id);
  const rooms = channels.filter((channel) => channel.kind === "text");
  $("channels").replaceChildren(
    ...list("Channels", rooms.flatMap((room) => [link(room), ...threads(room).map(link)])),
    ...list("Direct messages", channels.filter((channel) => channel.kind === "dm").map(link)),
  );
  if (focused) $("channels").querySelector(`[data-channel="${focused}"]`)?.focus();
}

let shown = {};

export function drawFacts(facts) {
  const rows = [
    ["votes_up", "Rated up", "👍"],
    ["votes_down", "Rated down", "👎"],
    ["rated_replies", "Rated replies", "⭐"],
    ["replies", "Replies", "💬"],
    ["comparisons", "Comparisons", "⚖️"],
    ["corrections", "Corrections", "✏️"],
  ];
  $("facts").replaceChildren(
    ...rows.map(([key, label, glyph]) =>
      h(
        "div",
        { class: shown[key] !== undefined && shown[key] !== facts[key] ? "fact bump" : "fact", data: { fact: key } },
        h("dt", {}, h("span", { "aria-hidden": "true" }, glyph), label),
        h("dd", {}, String(facts[key])),
      ),
    ),
  );
  if (shown.votes_up !== undefined && (shown.votes_up !== facts.votes_up || shown.votes_down !== facts.votes_down)) {
    $("facts-said").textContent = `In the store: ${facts.votes_up} up, ${facts.votes_down} down.`;
  }
  shown = facts;
  $("model").replaceChildren(
    h("h2", {}, "The model"),
    h("p", {}, h("b", {}, facts.model || "…"), facts.quantization && ` · ${facts.quantization}`),
    facts.languages && h("p", { class: "dim" }, facts.languages),
  );
}

// What to try: each step does itself at a press and is ticked off once it has happened.
export class Steps {
  constructor(app) {
    this.app = app;
    this.done = new Set(JSON.parse(sessionStorage.getItem("done") ?? "[]"));
    this.votes = undefined;
    const lastReply = () => [...document.querySelectorAll(".message.bot:not(.ephemeral)")].at(-1);
    const button = (pattern) =>
      [...document.querySelectorAll("#log .part button")].filter((found) => pattern.test(found.textContent)).at(-1);
    this.steps = [
      ["hi", "Say hi", "Mention Encore and watch the answer stream in.", () => app.composer.suggest(`@${app.state.bot.name} Hi! Who are you?`)],
      ["rate", "React to the answer", "👍 or 👎 is a rating: watch it land in the store below.", () => lastReply()?.focus()],
      ["again", "Ask for another version", "Press Regenerate; both versions are kept as a pair.", () => button(/regenerate|🔄|🔁/i)?.focus()],
      ["command", "Be the moderator", "Become Sam and run /encore status: only you see the answer.", async () => {
        await app.open(app.state.people.at(-1).id, app.state.channel);
        app.composer.suggest("/encore status");
      }],
    ];
    this.draw();
  }

  draw() {
    $("steps").replaceChildren(
      ...this.steps.map(([key, title, text, go]) =>
        h(
          "li",
          { class: this.done.has(key) ? "done" : "" },
          h(
            "button",
            { type: "button", onclick: () => (this.app.drawer("panel", false), go()) },
            h("b", {}, title),
            this.done.has(key) && h("span", { class: "unseen" }, "(done)"),
            h("span", {}, text),
          ),
        ),
      ),
    );
  }

  tick(key) {
    if (this.done.has(key)) return;
    this.done.add(key);
    sessionStorage.setItem("done", JSON.stringify([...this.done]));
    this.draw();
  }

  saw(message) {
    if (message.author.id === this.app.state.bot.id && !message.ephemeral && !message.system) this.tick("hi");
  }

  counted({ votes_up, votes_down }) {
    const votes = votes_up + votes_down;
    // A few more are yours; simulated fans' thumbs come by the dozen.
    if (votes > this.votes && votes < this.votes + 4 && !this.app.learning.passing) this.tick("rate");
    this.votes = votes;
  }

  pressed(label) {
    if (/regenerate|🔄|🔁/i.test(label)) this.tick("again");
  }

  ran(command) {
    if (command.startsWith("encore")) this.tick("command");
  }
}
