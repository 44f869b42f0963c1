// The learning panel: a week of simulated fans, a night at once, what came of it, and the way back.

import { $, h } from "./dom.js";

const TITLES = {
  promoted: "Proven better",
  rejected: "Not better: nothing changes",
  insufficient: "Not enough evidence: nothing changes",
  retracted: "A rating was taken back: nothing changes",
  failed: "The night failed: nothing changes",
};

export class Learning {
  constructor(app) {
    this.app = app;
    this.said = "";
    for (const wish of ["week", "night"]) $(`wish-${wish}`).addEventListener("click", () => this.wish(wish));
  }

  wish(wish) {
    return this.app.act("learn", { wish });
  }

  draw(learning) {
    $("learning").hidden = false;
    const busy = learning.doing !== null;
    this.passing = learning.doing === "week";
    for (const wish of ["week", "night"]) {
      $(`wish-${wish}`).disabled = busy;
      $(`wish-${wish}`).toggleAttribute("aria-busy", learning.doing === wish);
    }
    $("simulated").textContent = `${learning.simulated}.`;
    $("under-way").hidden = !busy && !learning.sentence;
    $("doing").textContent = learning.sentence;
    const bar = $("how-far");
    bar.hidden = !busy;
    bar.max = learning.total || 1;
    if (learning.total) bar.value = learning.done;
    else bar.removeAttribute("value");
    this.hear(learning);
    this.judge(learning.night);
    this.serve(learning, busy);
    this.speak(learning);
  }

  hear({ doing, heard }) {
    $("heard").replaceChildren(
      ...(doing === "week" && heard
        ? [
            h("p", { class: "line-said" }, heard.line),
            h("p", { class: "line-answered" }, heard.reply),
            h("p", { class: "thumbs" }, "👍".repeat(heard.ups) + "👎".repeat(heard.downs)),
          ]
        : []),
    );
  }

  judge(night) {
    if (night === null) return $("verdict").replaceChildren();
    const [first, ...rest] = night.sentences;
    $("verdict").replaceChildren(
      h(
        "article",
        { class: `verdict ${night.outcome}` },
        h("h3", {}, TITLES[night.outcome] ?? night.title),
        h("p", { class: "dim" }, `Night ${night.id}`),
        first && h("p", {}, first),
        rest.length > 0 && h("details", {}, h("summary", {}, "The evidence"), h("ul", {}, rest.map((line) => h("li", {}, line)))),
        night.wanted && h("p", {}, night.wanted),
        night.has_report && h("a", { href: "report", target: "_blank", rel: "noopener" }, "Open the report"),
      ),
    );
  }

  serve({ serving, back }, busy) {
    $("serving").replaceChildren(
      h("p", {}, h("span", { class: "dim" }, "Answers now: "), h("b", {}, serving)),
      ...(back
        ? [h("button", { type: "button", class: "button secondary", disabled: busy || null, onclick: () => this.wish("rollback") }, `Roll back to ${back}`)]
        : []),
    );
  }

  // Screen readers hear what begins and what it came to, not every step.
  speak({ doing, night, serving }) {
    const said = doing ? { week: "A week of fans passes.", night: "A night is under way." }[doing] : night ? `${TITLES[night.outcome] ?? night.title}. Answers now: ${serving}.` : "";
    if (said !== this.said) $("learning-said").textContent = said;
    this.said = said;
  }
}
