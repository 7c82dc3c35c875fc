// The widgets of page/widgets.py: Panels, Upload and Downloads. Written by hand, loaded by
// anywidget; it fetches nothing. Text is always set as text, never as HTML: a file's name may hold
// anything.

// One zoom for all panels: the scale s, and the left upper corner x, y of what is seen, in parts of
// the picture. Zooming by k around (u, v) keeps the pixel there: x + u/s stays as it is.
const clamp = (v, low, high) => Math.min(Math.max(v, low), high)
class Zoom {
  constructor(changed) { Object.assign(this, {s: 1, x: 0, y: 0, changed}) }
  set(s, x, y) {
    const room = 1 - 1/s
    Object.assign(this, {s, x: clamp(x, 0, room), y: clamp(y, 0, room)})
    this.changed()
  }
  by(k, u=.5, v=.5) {
    const s = clamp(this.s*k, 1, 40)
    this.set(s, this.x + u/this.s - u/s, this.y + v/this.s - v/s)
  }
  pan(du, dv) { this.set(this.s, this.x - du/this.s, this.y - dv/this.s) }
  get css() { return `translate(${-this.x*this.s*100}%, ${-this.y*this.s*100}%) scale(${this.s})` }
}

// Parts that all three widgets use
const make = (tag, name, ...kids) => {
  const o = document.createElement(tag)
  o.className = 'satseg-' + name
  o.append(...kids)
  return o
}
const button = (text, title, act) => {
  const o = make('button', 'button', text)
  Object.assign(o, {type: 'button', title, onclick: act})
  return o
}

// A panel listens to wheel, pointer and keys. At scale 1 a turn of the wheel outwards is left to
// the page. Where the pointer is in one panel, a small cross stands in the others.
const panel = (zoom, point) => {
  const canvas = make('canvas', 'canvas'), cross = make('div', 'cross')
  const title = make('figcaption', 'title'), frame = make('div', 'frame', canvas, cross)
  const root = make('figure', 'panel', title, frame)
  const place = e => {
    const r = frame.getBoundingClientRect()
    return [(e.clientX-r.left)/r.width, (e.clientY-r.top)/r.height]
  }
  let last = null
  frame.tabIndex = 0
  frame.setAttribute('role', 'group')
  frame.addEventListener('wheel', e => {
    if (e.deltaY > 0 && zoom.s === 1) return
    e.preventDefault()
    zoom.by(Math.exp(-clamp(e.deltaY, -200, 200)/300), ...place(e))
  }, {passive: false})
  frame.onpointerdown = e => { last = place(e); frame.setPointerCapture(e.pointerId) }
  frame.onpointermove = e => {
    const p = place(e)
    if (last) { zoom.pan(p[0]-last[0], p[1]-last[1]); last = p }
    point(p, root)
  }
  frame.onpointerup = frame.onpointercancel = () => { last = null }
  frame.onpointerleave = () => point(null, root)
  frame.ondblclick = () => zoom.set(1, 0, 0)
  const keys = {
    '+': () => zoom.by(1.5), '=': () => zoom.by(1.5),
    '-': () => zoom.by(1/1.5), '0': () => zoom.set(1, 0, 0),
    ArrowLeft: () => zoom.pan(.1, 0), ArrowRight: () => zoom.pan(-.1, 0),
    ArrowUp: () => zoom.pan(0, .1), ArrowDown: () => zoom.pan(0, -.1)}
  frame.onkeydown = e => {
    if (!keys[e.key] || e.ctrlKey || e.metaKey) return
    e.preventDefault()
    e.stopPropagation()
    keys[e.key]()
  }
  return {root, frame, canvas, cross, title}
}

// A picture arrives as its bytes, red, green, blue, row by row; an unchanged one is not drawn
const paint = (canvas, view, [h, w]) => {
  const rgb = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  if (canvas.seen === view || rgb.length !== h*w*3) return
  const image = new ImageData(w, h), out = new Uint32Array(image.data.buffer)
  for (let i = 0, j = 0; i < out.length; i++, j += 3)
    out[i] = rgb[j] | rgb[j+1] << 8 | rgb[j+2] << 16 | 0xff000000
  Object.assign(canvas, {width: w, height: h, seen: view})
  canvas.getContext('2d').putImageData(image, 0, 0)
}
const draw = (model, panels, root) => {
  const names = model.get('names'), shape = model.get('shape')
  panels.forEach((p, i) => {
    p.root.hidden = i >= names.length
    if (p.root.hidden) return
    p.title.textContent = names[i]
    const how = ': zoom with the wheel or + and -, move by dragging or with the arrows'
    p.frame.setAttribute('aria-label', names[i] + how)
    paint(p.canvas, model.get('rgb' + i), shape)
  })
  root.style.setProperty('--ratio', shape[1]/shape[0])
  root.style.setProperty('--height', model.get('height'))
}

// A colour with a key is a class that can be switched off: `hidden` in Python follows its tick box.
const entry = (model, word, rgb, key) => {
  const colour = make('span', 'colour')
  colour.style.background = `rgb(${rgb})`
  if (key === null) return make('span', 'entry', colour, word)
  const tick = make('input', 'tick')
  Object.assign(tick, {type: 'checkbox', checked: !model.get('hidden').includes(key)})
  tick.onchange = () => {
    const others = model.get('hidden').filter(k => k !== key)
    model.set('hidden', tick.checked ? others : [...others, key])
    model.save_changes()
  }
  return Object.assign(make('label', 'entry', tick, colour, word), {title: 'Show or hide ' + word})
}
const fillLegend = (model, root) => {
  const groups = new Map()
  for (const [group, ...o] of model.get('legend'))
    groups.set(group, [...(groups.get(group) || []), entry(model, ...o)])
  const group = ([name, items]) => make('span', 'group', make('b', 'head', name), ...items)
  root.replaceChildren(...[...groups].map(group))
}

const showPanels = ({model, el}) => {
  const point = (p, from) => panels.forEach(o => {
    o.cross.hidden = !p || o.root === from
    if (p) Object.assign(o.cross.style, {left: p[0]*100 + '%', top: p[1]*100 + '%'})
  })
  const scale = make('span', 'scale')
  const zoom = new Zoom(() => {
    panels.forEach(o => { o.canvas.style.transform = zoom.css })
    scale.textContent = zoom.s === 1 ? 'whole' : zoom.s.toFixed(1) + '\u00d7'
  })
  const panels = [0, 1, 2, 3].map(() => panel(zoom, point))
  const legend = make('div', 'legend')
  const whole = 'Show the whole picture (or double-click it)'
  const buttons = make('div', 'zoom', scale,
    button('\u2212', 'Zoom out', () => zoom.by(1/1.5)), button('+', 'Zoom in', () => zoom.by(1.5)),
    button('Reset', whole, () => zoom.set(1, 0, 0)))
  const row = make('div', 'row', ...panels.map(o => o.root))
  const root = make('div', 'panels', row, make('div', 'foot', legend, buttons))
  const show = () => draw(model, panels, root), list = () => fillLegend(model, legend)
  model.on('change', show)
  model.on('change:legend change:hidden', list)
  el.replaceChildren(root)
  list(); zoom.set(1, 0, 0); point(null); show()
  return () => { model.off('change', show); model.off('change:legend change:hidden', list) }
}

// A file goes in pieces of 1 MB, each after the one before has arrived
const PIECE = 2**20
const sender = (model, tell) => {
  let next = null
  const hear = o => { if (next && ['next', 'stop'].includes(o.kind)) next(o.kind === 'next') }
  const said = (o, buffers=[]) => new Promise(done => {
    next = done
    model.send(o, undefined, buffers)
  })
  const send = async file => {
    const about = {name: file.name, size: file.size}
    let good = await said({kind: 'start', ...about})
    for (let i = 0; good && i < file.size; i += PIECE) {
      tell(`${Math.floor(i/file.size*100)} %`)
      try { good = await said({kind: 'piece'}, [await file.slice(i, i+PIECE).arrayBuffer()]) }
      catch { model.send({kind: 'broken', ...about}); good = false }
    }
  }
  return [send, hear]
}

// Takes a file that is chosen, and one that is dropped
const upload = ({model, el}) => {
  const input = make('input', 'file')
  Object.assign(input, {type: 'file', hidden: true, accept: model.get('accept').join(',')})
  const open = button(model.get('label'), model.get('hint'), () => input.click())
  const [send, hear] = sender(model, text => { open.textContent = text })
  const take = async file => {
    if (!file || open.disabled) return
    open.disabled = true
    await send(file)
    Object.assign(open, {disabled: false, textContent: model.get('label')})
  }
  input.onchange = () => { take(input.files[0]); input.value = '' }
  open.ondragover = e => e.preventDefault()
  open.ondrop = e => { e.preventDefault(); take(e.dataTransfer.files[0]) }
  model.on('msg:custom', hear)
  el.replaceChildren(make('span', 'upload', open, input))
  return () => model.off('msg:custom', hear)
}

// A press asks Python for a file; its bytes come back as a message, and the browser saves them
const downloads = ({model, el}) => {
  const root = make('span', 'downloads'), mine = Math.random().toString(36).slice(2)
  const one = busy => ([kind, text, title, can]) => {
    const ask = () => { fill(true); model.send({kind, view: mine}) }
    return Object.assign(button(text, title, ask), {disabled: busy || !can})
  }
  const fill = busy => root.replaceChildren(...model.get('kinds').map(one(busy === true)))
  const hear = (o, buffers) => {
    if (o.view !== mine) return
    fill()
    if (!buffers.length) return
    const link = make('a', 'link'), url = URL.createObjectURL(new Blob(buffers, {type: o.mime}))
    Object.assign(link, {href: url, download: o.name})
    document.body.append(link)
    link.click()
    link.remove()
    setTimeout(() => URL.revokeObjectURL(url), 60000)
  }
  model.on('change:kinds', fill); model.on('msg:custom', hear)
  el.replaceChildren(root)
  fill()
  return () => { model.off('change:kinds', fill); model.off('msg:custom', hear) }
}

const widgets = {panels: showPanels, upload, downloads}
export default { render: o => widgets[o.model.get('widget')](o) }
