// Short words for the document.

export const $ = (id) => document.getElementById(id);

// Sets a text where it is another one: what has not changed is not told again by screen readers, nor laid out.
export function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

// An element with a class and a text.
export function make(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}
