// Wires the page together: who you are, which channel is open, and where news goes.

import { Composer } from "./composer.js";
import { $, avatar, icon, toast } from "./dom.js";
import { Learning } from "./learning.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { showModal } from "./modal.js";
import { drawChannels, drawFacts, drawPeople, Steps } from "./panels.js";

const app = {
  state: null,
  unread: new Set(),

  // Do something in the world; what goes wrong becomes a toast. Returns the answer, or undefined.
  async act(what, fields) {
    try {
      const answer = await app.link.ask(what, { channel: app.state.channel, ...fields });
      if (answer.modal) showModal(app, answer.modal);
      return answer;
    } catch (error) {
      toast(error.message);
      return undefined;
    }
  },

  async open(who, channel) {
    try {
      app.show(await app.link.ask("open", { who, channel }));
    } catch (error) {
      toast(error.message);
    }
  },

  show(state) {
    const moved = app.state?.channel !== state.channel || app.state?.me !== state.me;
    app.state = state;
    sessionStorage.setItem("who", state.me);
    sessionStorage.setItem("channel", state.channel);
    app.unread.delete(state.channel);
    $("server").textContent = state.server;
    drawPeople(app);
    app.place();
    app.log.fill(state.messages, moved);
    app.composer.reset(moved);
    $("app").classList.remove("waiting");
  },

  // Redraw what depends on the channel list.
  place() {
    drawChannels(app);
    const channel = app.here();
    $("title").textContent = `${channel.kind === "dm" ? "@" : "#"}${channel.name}`;
    $("topic").textContent = channel.kind === "dm" ? "Direct messages" : channel.topic;
    $("as").replaceChildren(avatar(app.me()));
    document.title = `${$("title").textContent} · ${app.state.server}`;
  },

  here: () => app.state.channels.find((channel) => channel.id === app.state.channel),
  me: () => app.state.people.find((person) => person.id === app.state.me),

  drawer(name, open) {
    for (const side of ["side", "panel"]) {
      const shown = side === name && open;
      $(side).classList.toggle("shown", shown);
      $(`open-${side}`).setAttribute("aria-expanded", String(shown));
    }
    $("shade").hidden = !open;
  },
};

const NEWS = {
  state: ({ state }) => app.show(state),
  message: ({ message }) => {
    app.log.put(message);
    app.steps.saw(message);
  },
  gone: ({ message }) => app.log.remove(message),
  channels: ({ channels, commands }) => {
    Object.assign(app.state, { channels, commands });
    app.place();
    app.composer.refresh();
  },
  unread: ({ channel }) => {
    app.unread.add(channel);
    drawChannels(app);
  },
  typing: ({ name }) => app.log.typing(name),
  facts: ({ facts }) => {
    drawFacts(facts);
    app.steps.counted(facts);
  },
  learning: ({ learning }) => app.learning.draw(learning),
  trouble: ({ error }) => toast(error),
};

app.log = new Log(app);
app.composer = new Composer(app);
app.steps = new Steps(app);
app.learning = new Learning(app);
app.link = new Link({
  onopen: () => app.open(sessionStorage.getItem("who"), sessionStorage.getItem("channel")),
  onpush: (news) => (app.state || ["facts", "learning"].includes(news.push)) && NEWS[news.push]?.(news),
  onstatus: (online) => ($("offline").hidden = online || !app.state),
});

for (const [name, glyph] of [["side", "menu"], ["panel", "star"]]) {
  $(`open-${name}`).append(icon(glyph));
  $(`open-${name}`).addEventListener("click", () => {
    const open = !$(name).classList.contains("shown");
    app.drawer(name, open);
    if (open) $(name).querySelector("button, a, input")?.focus();
  });
}
$("shade").addEventListener("click", () => app.drawer("side", false));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("shade").hidden) app.drawer("side", false);
});

const themes = matchMedia("(prefers-color-scheme: dark)");
function drawTheme() {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  const dark = chosen ? chosen === "dark" : themes.matches;
  $("theme").textContent = dark ? "☀ Light colours" : "☾ Dark colours";
  $("theme").onclick = () => {
    localStorage.setItem("theme", dark ? "light" : "dark");
    drawTheme();
  };
}
themes.addEventListener("change", drawTheme);
drawTheme();
