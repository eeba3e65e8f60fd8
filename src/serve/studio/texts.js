// Numbers and songs in words.

/** 83.4 is "1:23". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** 83.4 is "1:23.4": what can be typed into a field and read back. */
export function exactClock(seconds) {
  const tenths = Math.round(seconds * 10);
  return clock(tenths / 10) + (tenths % 10 ? `.${tenths % 10}` : "");
}

/** Seconds from "1:23.4", "83.4" or "83,4"; NaN if it is neither. */
export function secondsOf(text) {
  const parts = /^\s*(?:(\d+):)?(\d+(?:[.,]\d*)?)\s*$/.exec(text);
  return parts ? Number(parts[1] ?? 0) * 60 + Number(parts[2].replace(",", ".")) : NaN;
}

/** How long something takes, roughly. */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** When something was, as a person would say it. */
export function ago(time) {
  const seconds = Date.now() / 1000 - time;
  if (seconds < 45) return "just now";
  if (seconds < 22 * 3600) return `${span(Math.max(90, seconds))} ago`;
  return new Date(time * 1000).toLocaleDateString(undefined, {dateStyle: "medium"});
}

export const plural = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

export const isMark = (line) => /^\s*\[[^\]]*\]\s*$/.test(line);

export const tagsOf = (song) => (song.request?.tags ?? "").split(",").map((tag) => tag.trim()).filter(Boolean);

/** What a song is called: its title, else its first sung line, else its tags. */
export function titleOf(song) {
  const sung = (song.request?.lyrics ?? "").split("\n").find((line) => line.trim() && !isMark(line));
  return song.title || sung?.trim() || tagsOf(song).join(", ") || "Untitled";
}

/** A, B, C, ... of the variations of a set. */
export const letter = (variation) => String.fromCharCode(64 + variation);

export const isOver = (song) => ["done", "failed", "cancelled"].includes(song.state);

/** Whether there is, or will be, something to hear of a song. */
export const canBeHeard = (song) => song.state === "done" || !isOver(song) || song.audio_seconds > 0;

/** Seconds that the song has, or may have at most. */
export const lengthOf = (song) => song.duration ?? song.max_frames / 12.5;

/** Where a song stands, in a few words. */
export function standing(song) {
  const {state, place, stage, seconds_left: left} = song;
  if (state === "failed") return "Failed";
  if (state === "cancelled") return "Cancelled";
  if (state === "done") return clock(lengthOf(song));
  if (state === "queued") return place > 0 ? `${plural(place, "song")} before it` : "Next in line";
  if (stage === "resting") return "Waits for memory";
  const there = song.audio_seconds > 0 ? clock(song.audio_seconds) : "Nothing yet";
  return `${there} of ${clock(lengthOf(song))}${left === null ? "" : `, ${span(left)} left`}`;
}
