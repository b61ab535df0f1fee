/** The shell: header, screens, messages, and files that fall on the page. */

import {html, render, useEffect, useErrorBoundary, useState} from "./ui/html.js";
import {connect, connected, connections, info, MAKES, openJobs, route, toasts} from "./state.js";
import {Lightbox} from "./ui/detail.js";
import {Button, Empty, Icon, Spinner} from "./ui/parts.js";
import {takeFile} from "./ui/recipe.js";
import {nextTheme, theme} from "./ui/theme.js";

const SCREENS = ["generate", "edit", "gallery", "plot", "train", "understand"];
const loaded = new Map();

/** A screen that is there, or the error of fetching it, with the connection over which that was tried. */
function useScreen(name) {
  const [, setCount] = useState(0);
  const settle = (found) => { loaded.set(name, found); setCount((count) => count + 1); };
  // a browser keeps that a module could not be fetched, by its address
  const load = () => import(`./screens/${name}.js${loaded.has(name) ? `?again=${Date.now()}` : ""}`)
    .then((module) => settle({Body: module.default}), (error) => settle({error, tried: connections.value}));
  const found = loaded.get(name) ?? {};
  const old = found.error && found.tried !== connections.value;
  useEffect(() => { if (!found.Body) load(); }, [name, connections.value]);
  return {...(old ? {} : found), load};
}

/** A screen is fetched when it is first opened, and one that fails takes no other with it. */
function Screen({name}) {
  const [crash] = useErrorBoundary();
  const {Body, error, load} = useScreen(name);
  if (error && !connected.value) return html`<${Empty} icon="warning" title="The server does not answer">
    <p>Is <code>unstir studio</code> running? The screen comes by itself when it answers.</p>
    <${Button} icon="restore" onClick=${load}>Try again<//><//>`;
  if (crash || error) return html`<${Empty} icon="warning" title="This screen broke">
    <p class="error">${String((crash || error).message)}</p>
    <${Button} icon="restore" onClick=${() => location.reload()}>Load it anew<//><//>`;
  return Body ? html`<${Body} />` : html`<div class="loading"><${Spinner} label="Loading" /></div>`;
}

const title = (name) => name[0].toUpperCase() + name.slice(1);

function Header({screen}) {
  const open = openJobs.value.filter(({kind}) => MAKES.has(kind)).length;
  return html`<header class="top">
    <a class="logo" href="#/generate" aria-label="unstir">
      <svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">
        <path d="M12 2.5c3.6 4.6 6.4 7.9 6.4 11.6a6.4 6.4 0 0 1-12.8 0C5.6 10.4 8.4 7.1 12 2.5z" fill="currentColor" />
        <path d="M8.7 14.6c.3 1.9 1.5 3.1 3.3 3.4" fill="none" stroke="var(--surface)" stroke-width="1.5"
          stroke-linecap="round" /></svg>unstir</a>
    <nav aria-label="Screens">
      ${SCREENS.map((name) => html`<a key=${name} href=${`#/${name}`} data-testid=${`tab-${name}`}
      aria-current=${name === screen ? "page" : undefined}><${Icon} name=${name} /><span>${title(name)}</span>
      ${name === "generate" && open > 0
        && html`<b class="count" aria-label=${`${open} jobs in the queue`}>${open}</b>`}</a>`)}</nav>
    <div class="top-side"><span class=${`connection ${connected.value ? "on" : "off"}`} role="status"
      data-testid="connection"><i /><span>${connected.value ? "connected" : "offline"}</span></span>
      <${Button} icon=${{auto: "auto", light: "sun", dark: "moon"}[theme.value]} kind="quiet" data-testid="theme"
        label=${`Theme: ${theme.value}`} onClick=${nextTheme} /></div></header>`;
}

const Toasts = () => html`<div class="toasts" aria-live="polite" data-testid="toasts">
  ${toasts.value.map((one) => html`<div key=${one.id}
  class=${`toast ${one.kind}`} role=${one.kind === "error" ? "alert" : "status"}><span>${one.text}</span>
  ${one.action && html`<button type="button" class="link"
    onClick=${() => { one.dismiss(); one.action.run(); }}>${one.action.label}</button>`}
  <${Button} icon="close" kind="quiet" label="Dismiss" onClick=${one.dismiss} /></div>`)}</div>`;

/** Said only of a connection that was there before: the first one takes a moment. */
const Banner = () => connections.value > 0 && !connected.value
  && html`<div class="banner" role="status" data-testid="banner">
  <${Spinner} /> The server is away. What you type is kept; this page comes back by itself.</div>`;

/** Files dropped on anything that does not take them itself. */
function useDrop() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    const on = {
      dragover: (event) => {
        if (!holdsFiles(event)) return;
        setOver(!event.defaultPrevented);
        event.preventDefault();
      },
      dragleave: (event) => !event.relatedTarget && setOver(false),
      drop: (event) => {
        setOver(false);
        if (event.defaultPrevented || !holdsFiles(event)) return;
        event.preventDefault();
        if (event.dataTransfer.files.length) takeFile(event.dataTransfer.files[0]);
      },
    };
    Object.entries(on).forEach(([name, listener]) => addEventListener(name, listener));
    return () => Object.entries(on).forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
  return over;
}

function App() {
  const over = useDrop();
  const {screen} = route.value;
  useEffect(() => { document.title = `${title(screen)} · unstir`; }, [screen]);
  if (info.value?.denied) return html`<${Empty} icon="lock" title="This page needs its key">
    <p>Open the link that <code>unstir studio</code> printed when it started. It works once: run <code>unstir studio</code> again in the same place and it prints another.</p><//>`;
  return html`<${Header} screen=${screen} /><${Banner} />
    <main id="main" tabIndex="-1">
      ${SCREENS.includes(screen) ? html`<${Screen} key=${screen} name=${screen} />`
      : html`<${Empty} icon="search" title="There is no such screen">
        <a href="#/generate">To Generate</a><//>`}</main>
    <${Lightbox} /><${Toasts} />
    ${over && html`<div class="drop" data-testid="drop"><div><${Icon} name="upload" size=${40} />
      <strong>Drop a picture</strong><span>One that unstir made brings its settings back</span></div></div>`}`;
}

render(html`<${App} />`, document.getElementById("app"));
connect();
