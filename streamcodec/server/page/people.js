// Who is in the room: a face for each, with a ring that grows with the voice, and what they cannot do.

import { $, make, setText } from "./dom.js";
import { decibel } from "./meter.js";

const QUIET_DB = -55, LOUD_DB = -12; // of a voice: no ring, and a full one
const FALL = 2.5; // of the ring, a second
const SILENT_SECONDS = 5; // without a voice: said in words
export const SELF = "self"; // in place of a stream

// Two letters of a name.
export function initials(name) {
  const words = name.replace(/^\w+:\/\//, "").match(/[\p{L}\p{N}]+/gu) ?? ["?"];
  const ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  return ends.map((word) => [...word][0].toUpperCase()).join("");
}

// A hue for each name, the same everywhere, in degrees.
export const hue = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);

export class People {
  constructor() {
    this._people = new Map(); // stream or SELF: { item, note, level, loudest, silent }
  }

  // members: of the protocol. own: this page's id. room: its name.
  show(members, own, room) {
    const before = this._people;
    this._people = new Map();
    const items = members.map((member) => this._person(member, member.id === own, before));
    $("member-list").replaceChildren(...items);
    const count = members.length === 1 ? "you alone" : `${members.length} people`;
    setText($("people-title"), `In room ${room}: ${count}`);
    $("alone").hidden = members.length !== 1;
    this.muted = this._muted;
  }

  // Whether this page is muted.
  set muted(on) {
    this._muted = on;
    const self = this._people.get(SELF);
    if (!self) return;
    self.face.replaceChildren();
    if (on) self.face.append($("veil").querySelector("svg").cloneNode(true));
    this._note(self);
  }

  // rms: of what was just heard of a stream, or said by SELF.
  push(stream, rms) {
    const person = this._people.get(stream);
    if (person) person.loudest = Math.max(person.loudest, rms);
  }

  draw(seconds) {
    for (const person of this._people.values()) {
      const now = (decibel(person.loudest) - QUIET_DB) / (LOUD_DB - QUIET_DB);
      person.level = Math.min(1, Math.max(0, person.level - FALL * seconds, now));
      person.silent = now > 0 ? 0 : person.silent + seconds;
      person.loudest = 0;
      person.face.style.setProperty("--level", person.level.toFixed(2));
      person.item.classList.toggle("speaking", person.level > 0.1);
      this._note(person);
    }
  }

  _person({ id, member, role, stream }, self, before) {
    const name = member || `Guest ${id}`, key = self ? SELF : (stream ?? `listener ${id}`);
    const item = make("li", ""), face = make("span", "face"), note = make("small", "");
    face.dataset.initials = initials(name);
    face.style.setProperty("--hue", hue(name));
    item.title = name;
    item.append(face, make("span", "who", name), note);
    const { level = 0, silent = 0 } = before.get(key) ?? {};
    const person = { item, face, note, role, self, level, silent, loudest: 0 };
    this._people.set(key, person);
    this._note(person);
    return item;
  }

  _note({ note, role, self, silent }) {
    const muted = self && this._muted;
    note.classList.toggle("alarm", Boolean(muted));
    setText(note, muted ? "You, muted" : self ? "You" : role === "listener" ? "Listens" : silent > SILENT_SECONDS ? "Silent" : "");
  }
}
