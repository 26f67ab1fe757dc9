/**
 * The map: both parties, the rings of the order, zones, trails, and how sure each fix is. With no style address
 * it draws a plain ground with a metric grid, so that distances can be read with no tile server at all.
 */

import { h } from "./dom.js";
import { bounds, cellRing, circle, grid, metres, roundMetres } from "./geometry.js";
import { term, t } from "./i18n.js";
import { icon } from "./icons.js";
import { ago } from "./time.js";
import { metresText } from "./words.js";

const LIBRARY = "/console/vendor/maplibre-gl.mjs";
const WORKER = "/console/vendor/maplibre-gl-worker.mjs";
const HOME = { center: [67, 48.2], zoom: 3.6 }; // Kazakhstan, until there is something to look at
const FIT_PADDING_PX = 64;
const FIT_ZOOM_MAX = 16.5;
const GRID_LINES_WANTED = 8;
const DISTANCE_ROOM_PX = 110;
const OLD_FIX_MS = 120_000;

const EMPTY = { type: "FeatureCollection", features: [] };
const SOURCES = ["grid", "zones", "rings", "cells", "accuracy", "trails", "link"];

export class MapView extends EventTarget {
  #container;
  #styleUrl;
  #gl = null;
  #map = null;
  #ready = false;
  #markers = new Map();
  #shown = null; // what was fitted to last
  #moved = false; // the dispatcher moved the map himself: leave it where it is
  #draw = null;

  constructor(container, styleUrl) {
    super();
    this.#container = container;
    this.#styleUrl = styleUrl;
  }

  /** Load the library and the style; answers whether there is a map. */
  async start() {
    try {
      this.#gl = await import(LIBRARY);
      this.#gl.setWorkerUrl(WORKER);
      this.#map = new this.#gl.Map({
        container: this.#container, style: this.#styleUrl ?? plainStyle(), ...HOME,
        attributionControl: this.#styleUrl ? { compact: true } : false,
        dragRotate: false, pitchWithRotate: false, touchPitch: false, fadeDuration: 0, cooperativeGestures: false,
      });
    } catch (error) {
      console.warn("The map could not start:", error);
      return false;
    }
    const map = this.#map;
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.addControl(new this.#gl.ScaleControl({ maxWidth: 140, unit: "metric" }), "bottom-left");
    map.addControl(new this.#gl.NavigationControl({ showCompass: false }), "bottom-right");
    map.on("style.load", () => this.#prepare());
    map.on("moveend", () => {
      this.#drawGrid();
      this.#thin();
    });
    for (const gesture of ["dragstart", "wheel", "dblclick"]) map.on(gesture, () => (this.#moved = true));
    map.on("error", ({ error }) => {
      if (!this.#ready && this.#styleUrl) {
        this.#styleUrl = null; // a map server that is away must not cost the map
        map.setStyle(plainStyle());
      }
      console.warn("map:", error?.message);
    });
    return true;
  }

  /** Draw again in the colours of the theme. */
  restyle() {
    if (!this.#map || !this.#ready) return;
    if (this.#styleUrl) this.#paint();
    else this.#map.setStyle(plainStyle(), { diff: false });
  }

  /**
   * One incident: `parties` [{role, name, lat, lon, accuracy_m, at, trail}], rings and zones of its order; `cells`
   * [{role, cell}] of who is shown coarsely: a shape, and no pin in its middle where nobody is known to be.
   */
  showIncident(view) {
    this.#draw = () => {
      const { parties, cells, order, zones, incident } = view;
      const victim = parties.find((party) => party.role === "victim");
      const aggressor = parties.find((party) => party.role === "aggressor");
      const at = victim ?? parties[0];
      this.#set("rings", at && victim ? rings(victim, order) : []);
      this.#set("zones", zones.map((zone) => feature(ground(zone), { kind: zone.properties?.kind ?? "exclusion" })));
      this.#set("cells", cells.map(cellFeature));
      this.#set("accuracy", parties.filter((party) => party.accuracy_m > 0).map((party) =>
        feature({ type: "Polygon", coordinates: [circle([party.lon, party.lat], party.accuracy_m)] }, { role: party.role })));
      this.#set("trails", parties.filter((party) => party.trail.length > 1).map((party) =>
        feature({ type: "LineString", coordinates: party.trail.map(([lon, lat]) => [lon, lat]) }, { role: party.role })));
      this.#set("link", victim && aggressor ? [line([victim.lon, victim.lat], [aggressor.lon, aggressor.lat])] : []);
      const markers = parties.map((party) => ({
        id: `party:${party.role}`, lon: party.lon, lat: party.lat, element: () => partyMarker(party), key: partyKey(party),
      }));
      if (victim && aggressor) {
        const far = metresText(metres([victim.lon, victim.lat], [aggressor.lon, aggressor.lat]));
        markers.push({
          id: "distance", lon: (victim.lon + aggressor.lon) / 2, lat: (victim.lat + aggressor.lat) / 2, key: far,
          element: () => h("div", { class: "map-distance" }, far),
        });
      }
      this.#place(markers);
      this.#thin();
      const points = parties.map((party) => [party.lon, party.lat]);
      points.push(...cells.flatMap(({ cell }) => cellRing(cell)));
      // The ring says more than two points do, as long as it does not make them one point.
      const apart = victim && aggressor ? metres(points[0], points[1]) : Infinity;
      if (victim && order?.alert_m > 0 && (parties.length === 1 || apart * 8 > order.alert_m)) points.push(...circle([victim.lon, victim.lat], order.alert_m));
      this.#fitOnce(`incident:${incident.id}:${parties.map((party) => party.role)}:${cells.length}:${order?.alert_m ?? ""}`, points);
    };
    this.#draw();
  }

  /** Every incident that has a place: `items` [{incident, lon, lat}], and `cells` of the coarse ones; `choose(id)` when one is pressed. */
  showOverview(items, cells, choose) {
    this.#draw = () => {
      for (const name of SOURCES) if (name !== "grid") this.#set(name, []);
      this.#place(items.map(({ incident, lon, lat }) => ({
        id: `incident:${incident.id}`, lon, lat, key: `${incident.severity}:${incident.type}:${incident.state}:${document.documentElement.lang}`,
        element: () => incidentMarker(incident, choose),
      })));
      this.#set("cells", cells.map(cellFeature));
      this.#fitOnce(`overview:${[...items, ...cells].map(({ incident }) => incident.id)}`,
        [...items.map(({ lon, lat }) => [lon, lat]), ...cells.flatMap(({ cell }) => cellRing(cell))]);
    };
    this.#draw();
  }

  /** Bring everything drawn into view. */
  fit() {
    this.#moved = false;
    this.#shown = null;
    this.#draw?.();
  }

  resize() {
    this.#map?.resize();
  }

  #prepare() {
    const map = this.#map;
    const ink = inks();
    for (const name of SOURCES) if (!map.getSource(name)) map.addSource(name, { type: "geojson", data: EMPTY });
    const role = (victim, aggressor) => ["match", ["get", "role"], "victim", victim, aggressor];
    const kind = (exclusion, inclusion) => ["match", ["get", "kind"], "inclusion", inclusion, exclusion];
    const layers = [
      ["grid", "line", { "line-color": ink.grid, "line-width": 1 }],
      ["zones", "fill", { "fill-color": kind(ink.alert, ink.victim), "fill-opacity": 0.1 }],
      ["zones", "line", { "line-color": kind(ink.alert, ink.victim), "line-width": 1.5 }],
      ["cells", "fill", { "fill-color": role(ink.victim, ink.aggressor), "fill-opacity": 0.14 }],
      ["cells", "line", { "line-color": role(ink.victim, ink.aggressor), "line-width": 2, "line-dasharray": [4, 3] }],
      ["accuracy", "fill", { "fill-color": role(ink.victim, ink.aggressor), "fill-opacity": 0.16 }],
      ["rings", "fill", { "fill-color": ink.alert, "fill-opacity": ["match", ["get", "ring"], "alert", 0.07, 0] }],
      ["rings", "line", { "line-color": ink.alert, "line-width": 2.5 }, ["==", ["get", "ring"], "alert"]],
      ["rings", "line", { "line-color": ink.warning, "line-width": 2, "line-dasharray": [3, 2.5] }, ["==", ["get", "ring"], "warning"]],
      ["trails", "line", { "line-color": role(ink.victim, ink.aggressor), "line-width": 3, "line-opacity": 0.65 }],
      ["link", "line", { "line-color": ink.text, "line-width": 1.5, "line-dasharray": [1.5, 2], "line-opacity": 0.8 }],
    ];
    layers.forEach(([source, type, paint, filter], index) => {
      map.addLayer({ id: `q${index}`, source, type, paint, ...(filter && { filter }), ...(type === "line" && { layout: { "line-join": "round" } }) });
    });
    this.#ready = true;
    this.#container.dataset.ready = "true";
    this.#drawGrid();
    this.#draw?.();
  }

  #paint() {
    for (let index = 0; this.#map.getLayer(`q${index}`); index += 1) this.#map.removeLayer(`q${index}`);
    this.#prepare();
  }

  #set(name, features) {
    if (this.#ready) this.#map.getSource(name)?.setData({ type: "FeatureCollection", features });
  }

  #place(wanted) {
    if (!this.#map) return;
    const ids = new Set(wanted.map(({ id }) => id));
    for (const [id, held] of this.#markers) {
      if (ids.has(id)) continue;
      held.marker.remove();
      this.#markers.delete(id);
    }
    for (const { id, lon, lat, key, element } of wanted) {
      let held = this.#markers.get(id);
      if (held && held.key !== key) {
        held.marker.remove();
        held = null;
      }
      if (!held) {
        held = { key, marker: new this.#gl.Marker({ element: element() }).setLngLat([lon, lat]).addTo(this.#map) };
        this.#markers.set(id, held);
      } else {
        held.marker.setLngLat([lon, lat]);
      }
    }
  }

  /** The distance between two parties that nearly touch on the screen would only cover their names. */
  #thin() {
    const [victim, aggressor, far] = ["party:victim", "party:aggressor", "distance"].map((id) => this.#markers.get(id)?.marker);
    if (!victim || !aggressor || !far) return;
    const [a, b] = [victim, aggressor].map((marker) => this.#map.project(marker.getLngLat()));
    far.getElement().hidden = Math.hypot(a.x - b.x, a.y - b.y) < DISTANCE_ROOM_PX;
  }

  #fitOnce(what, points) {
    const box = bounds(points);
    if (!this.#map || !box) return;
    if (this.#shown === what) {
      if (this.#moved) return;
      const view = this.#map.getBounds();
      if (points.every((point) => view.contains(point))) return;
    }
    if (this.#shown !== what) this.#moved = false;
    this.#shown = what;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const room = Math.min(this.#container.clientWidth, this.#container.clientHeight);
    this.#map.fitBounds(box, {
      padding: Math.min(FIT_PADDING_PX, room / 5), maxZoom: FIT_ZOOM_MAX, duration: still ? 0 : 450, essential: false,
    });
  }

  #drawGrid() {
    if (!this.#ready || this.#styleUrl) return;
    const { _sw: sw, _ne: ne } = this.#map.getBounds();
    const box = [[sw.lng, sw.lat], [ne.lng, ne.lat]];
    const step = roundMetres(metres([sw.lng, (sw.lat + ne.lat) / 2], [ne.lng, (sw.lat + ne.lat) / 2]) / GRID_LINES_WANTED);
    this.#set("grid", grid(box, step).map((points) => feature({ type: "LineString", coordinates: points }, {})));
    this.dispatchEvent(new CustomEvent("grid", { detail: { step } }));
  }
}

const feature = (geometry, properties) => ({ type: "Feature", geometry, properties });
const cellFeature = ({ role, cell }) => feature({ type: "Polygon", coordinates: [cellRing(cell)] }, { role });
const line = (...points) => feature({ type: "LineString", coordinates: points }, {});

/** A zone's shape: a point with a radius is a circle. */
function ground({ geometry, properties }) {
  if (geometry.type !== "Point" || !(properties?.radius_m > 0)) return geometry;
  return { type: "Polygon", coordinates: [circle(geometry.coordinates, properties.radius_m)] };
}

function rings(victim, order) {
  return ["warning", "alert"]
    .filter((ring) => order?.[`${ring}_m`] > 0 && !(ring === "warning" && order.warning_m <= order.alert_m))
    .map((ring) => feature(
      { type: "Polygon", coordinates: [circle([victim.lon, victim.lat], order[`${ring}_m`])] }, { ring },
    ));
}

const isOld = (party) => Date.now() - Date.parse(party.at) > OLD_FIX_MS;
const partyKey = (party) => `${party.name}|${isOld(party)}|${document.documentElement.lang}`;

function partyMarker(party) {
  const label = `${t(`role.${party.role}`)}: ${party.name ?? ""}`;
  return h("div", { class: `map-party ${party.role}${isOld(party) ? " old" : ""}`, role: "img", "aria-label": label, title: `${label} · ${ago(party.at)}` },
    icon(party.role), h("b", {}, t(`role.${party.role}.letter`)), h("span", { class: "map-name" }, party.name ?? t(`role.${party.role}`)));
}

function incidentMarker(incident, choose) {
  const label = `${term("severity", incident.severity)}: ${term("type", incident.type)}`;
  return h("button", {
    type: "button", class: `map-incident sev-${incident.severity} state-${incident.state}`, "aria-label": label, title: label,
    onclick: () => choose(incident.id),
  }, icon(incident.severity));
}

/** The theme's colours as the map wants them. */
function inks() {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  const ink = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const held = {
    ground: ink("map-ground"), grid: ink("map-grid"), victim: ink("victim"), aggressor: ink("aggressor"),
    alert: ink("ring-alert"), warning: ink("ring-warning"), text: ink("text"),
  };
  probe.remove();
  return held;
}

function plainStyle() {
  return { version: 8, sources: {}, layers: [{ id: "ground", type: "background", paint: { "background-color": inks().ground } }] };
}
