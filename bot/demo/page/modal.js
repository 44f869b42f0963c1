// Forms that the bot shows: every kind of field Discord has, except files.

import { $, h, toast } from "./dom.js";
import { choices, drawOptions } from "./parts.js";

export function showModal(app, modal) {
  const readers = new Map(); // custom_id -> function that reads the field, or undefined to leave it out
  const fields = modal.fields.map((field, index) => drawField(app, field, `field-${index}`, readers));
  const dialog = $("modal");
  const send = h("button", { class: "button primary" }, "Submit");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "modal-title" }, modal.title),
    fields,
    h("p", { class: "dim note" }, `This form goes to ${app.state.bot.name}.`),
    h("div", { class: "actions" }, h("button", { type: "button", class: "button secondary", onclick: () => dialog.close() }, "Cancel"), send),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = {};
    for (const [key, read] of readers) {
      const value = read();
      if (value !== undefined) values[key] = value;
    }
    send.disabled = true;
    try {
      const answer = await app.link.ask("submit", { channel: app.state.channel, token: modal.token, values });
      dialog.close();
      if (answer.modal) showModal(app, answer.modal);
    } catch (error) {
      // The form stays as it is, so that nothing typed is lost.
      toast(error.message);
      send.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.setAttribute("aria-labelledby", "modal-title");
  dialog.showModal();
  form.querySelector("input, textarea, select")?.focus();
}

function drawField(app, field, id, readers) {
  if (field.html !== undefined) return h("div", { class: "content", html: field.html });
  const required = field.required ?? field.type <= 8;
  const label = h("label", { for: id }, field.label, required && h("span", { class: "required", "aria-hidden": "true" }, " *"));
  const hint = field.description && h("small", { class: "dim", id: `${id}-hint` }, field.description);
  const common = { id, required, "aria-describedby": hint ? `${id}-hint` : null };
  const wrap = (...inputs) => h("div", { class: "field" }, label, hint, inputs);
  const key = field.custom_id;
  const drawBoxes = (type, options) => {
    const boxes = options.map((option) => {
      const input = h("input", { type, name: id, value: option.value, checked: option.default, required: required && type === "radio" });
      return h("label", { class: "option" }, input, h("span", {}, option.label, option.description && h("small", { class: "dim" }, option.description)));
    });
    const chosen = () => boxes.map((box) => box.firstChild).filter((input) => input.checked).map((input) => input.value);
    readers.set(key, type === "radio" ? () => chosen()[0] : chosen);
    return h("fieldset", { class: "field" }, h("legend", {}, field.label), hint, boxes);
  };
  switch (field.type) {
    case 4: {
      const limits = { minlength: field.min_length, maxlength: field.max_length ?? 4000, placeholder: field.placeholder, autocomplete: "off" };
      const input = field.style === 2 ? h("textarea", { ...common, ...limits, rows: 4 }) : h("input", { ...common, ...limits });
      input.value = field.value ?? "";
      readers.set(key, () => input.value);
      return wrap(input);
    }
    case 3: case 5: case 6: case 7: case 8: {
      if ((field.max_values ?? 1) > 1) return drawBoxes("checkbox", choices(app, field));
      const select = drawOptions(h("select", common), choices(app, field), field.placeholder || (required ? "Choose" : "—"));
      readers.set(key, () => [select.value].filter(Boolean));
      return wrap(select);
    }
    case 21:
      return drawBoxes("radio", field.options ?? []);
    case 22:
      return drawBoxes("checkbox", field.options ?? []);
    case 23: {
      const input = h("input", { type: "checkbox", id, checked: field.default });
      readers.set(key, () => input.checked);
      return h("label", { class: "option field" }, input, h("span", {}, field.label, hint));
    }
    default:
      return h("p", { class: "dim" }, `${field.label}: this kind of field can't be filled in here.`);
  }
}
