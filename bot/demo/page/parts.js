// What bots put under a message: embeds, buttons, selects and layouts; and fields shared with forms.

import { h } from "./dom.js";

const BUTTONS = { 1: "primary", 2: "secondary", 3: "success", 4: "danger", 5: "link" };

export function drawEmbed(embed) {
  const box = h(
    "div",
    { class: "embed" },
    embed.title && h("b", { class: "embed-title" }, embed.title),
    embed.html && h("div", { html: embed.html }),
    embed.fields.length > 0 &&
      h("dl", {}, embed.fields.map((field) => h("div", { class: field.inline ? "" : "wide" }, h("dt", {}, field.name), h("dd", { html: field.html })))),
    embed.footer && h("small", { class: "dim" }, embed.footer),
  );
  if (embed.colour) box.style.borderInlineStartColor = `#${embed.colour.toString(16).padStart(6, "0")}`;
  return box;
}

export function drawComponents(app, message, parts) {
  return parts.map((part) => drawComponent(app, message, part)).filter(Boolean);
}

function drawComponent(app, message, part) {
  const inner = () => drawComponents(app, message, part.components ?? []);
  switch (part.type) {
    case 1:
      return h("div", { class: "row" }, inner());
    case 2:
      return drawButton(app, message, part);
    case 3: case 5: case 6: case 7: case 8:
      return drawSelect(app, message, part);
    case 9:
      return h("div", { class: "section" }, h("div", {}, inner()), drawComponent(app, message, part.accessory));
    case 10:
      return h("div", { class: "content", html: part.html });
    case 14:
      return h("hr");
    case 17:
      return h("div", { class: "embed" }, inner());
    default:
      return null;
  }
}

function drawButton(app, message, part) {
  const glyph = part.emoji?.id ? `:${part.emoji.name}:` : part.emoji?.name;
  const label = [glyph, part.label].filter(Boolean).join(" ");
  if (part.url) return h("a", { class: "button link", href: part.url, target: "_blank", rel: "noopener noreferrer" }, label, " ↗");
  const button = h("button", { type: "button", class: `button ${BUTTONS[part.style] ?? "secondary"}`, disabled: part.disabled, data: { key: part.custom_id } }, label);
  button.addEventListener("click", async () => {
    button.setAttribute("aria-busy", "true");
    const answer = await app.act("click", { message: message.id, custom_id: part.custom_id });
    button.removeAttribute("aria-busy");
    if (answer) app.steps.pressed(label);
  });
  return button;
}

// What a select offers: its own options, or people, roles and channels.
export function choices(app, part) {
  const people = [...app.state.people, app.state.bot].map(({ id, name }) => ({ value: id, label: name }));
  const roles = app.state.roles.map(({ id, name }) => ({ value: id, label: `@${name}` }));
  const channels = app.state.channels
    .filter(({ kind }) => kind !== "dm")
    .filter(({ kind }) => !part.channel_types?.length || part.channel_types.includes(kind === "thread" ? 11 : 0))
    .map(({ id, name }) => ({ value: id, label: `#${name}` }));
  return { 5: people, 6: roles, 7: [...people, ...roles], 8: channels }[part.type] ?? part.options;
}

export function drawOptions(select, options, placeholder) {
  if (placeholder !== undefined) select.append(h("option", { value: "" }, placeholder));
  for (const { value, label, description, emoji, default: chosen } of options) {
    const text = [emoji?.id ? "" : emoji?.name, label, description && `— ${description}`].filter(Boolean).join(" ");
    select.append(h("option", { value, selected: chosen }, text));
  }
  return select;
}

function drawSelect(app, message, part) {
  const several = (part.max_values ?? 1) > 1;
  const label = part.placeholder || "Choose";
  const select = drawOptions(
    h("select", { "aria-label": label, disabled: part.disabled, multiple: several, size: several ? 4 : null, data: { key: part.custom_id } }),
    choices(app, part),
    several ? undefined : label,
  );
  const send = async () => {
    const values = [...select.selectedOptions].map((option) => option.value).filter(Boolean);
    if (values.length) await app.act("select", { message: message.id, custom_id: part.custom_id, values });
  };
  if (!several) {
    select.addEventListener("change", send);
    return select;
  }
  return h("div", { class: "row" }, select, h("button", { type: "button", class: "button secondary", onclick: send }, "Choose"));
}
