// Charts of the last 15 minutes. Dashes and the place in the legend identify a line as well as its colour does, and a label
// describes the chart in words, for readers who do not see it.

import { h, replace } from "./dom.js";

const DASHES = [[], [8, 4], [2, 3], [10, 4, 2, 4], [5, 2]];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const SVG = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

function swatch(series, index) {
  const svg = SVG("svg", { width: 26, height: 8, "aria-hidden": "true", class: "swatch" });
  const dashes = DASHES[index].join(" ");
  svg.append(SVG("line", { x1: 0, y1: 4, x2: 26, y2: 4, "stroke-width": 2.500, stroke: colour(series.colour), "stroke-dasharray": dashes }));
  return svg;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** One chart: `series` are `{ name, colour, of(history) }`, `say` tells a value. */
export class Chart {
  constructor({ title, series, say, floor = 1, steps }) {
    Object.assign(this, { title, series, say, floor, steps });
    this.values = series.map(() => h("b", {}, "–"));
    const entries = series.map((one, index) => h("li", {}, swatch(one, index), `${one.name} `, this.values[index]));
    this.canvas = h("div", { class: "canvas", role: "img", "aria-label": title });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, h("h2", {}, title), h("ul", { class: "legend" }, entries)), this.canvas);
  }

  draw(history) {
    const data = [history.at, ...this.series.map((one) => one.of(history))];
    if (!this.plot && this.canvas.clientWidth > 0) this.plot = this.make(data);
    else this.plot?.setData(data);
    data.slice(1).forEach((column, index) => replace(this.values[index], this.say(column.at(-1) ?? null)));
    const words = data.slice(1).map((column, index) => {
      const known = column.filter((value) => value !== null);
      const most = known.length ? Math.max(...known) : null;
      return `${this.series[index].name} now ${this.say(column.at(-1) ?? null)}, at most ${this.say(most)}`;
    });
    this.canvas.setAttribute("aria-label", `${this.title}, the last ${Math.round(history.at.length / 60)} minutes: ${words.join("; ")}`);
  }

  make(data) {
    const axis = { stroke: colour("--dim"), font: "11px system-ui", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const options = {
      width: this.canvas.clientWidth,
      height: 150,
      legend: { show: false },
      cursor: { sync: { key: "sidegate" }, points: { size: 5 }, drag: { x: false, y: false } },
      scales: { x: { range: (_, low, high) => [Math.min(low, high - 120), high] }, y: { range: (_, low, high) => [0, Math.max(this.floor, (high ?? 0) * 1.15)] } },
      axes: [
        { ...axis, size: 24, values: (_, ticks) => ticks.map(clock), space: 70 },
        { ...axis, size: 58, space: 26, incrs: this.steps, values: (_, ticks) => ticks.map((tick) => this.say(tick)) },
      ],
      series: [{}, ...this.series.map((one, index) => ({ stroke: colour(one.colour), width: 1.500, dash: DASHES[index], points: { show: false } }))],
    };
    const plot = new uPlot(options, data, this.canvas);
    this.observer = new ResizeObserver(() => plot.setSize({ width: this.canvas.clientWidth, height: 150 }));
    this.observer.observe(this.canvas);
    return plot;
  }

  remove() {
    this.observer?.disconnect();
    this.plot?.destroy();
  }
}
