// How pages look, and what is read from them.

/** The window and the colours that pages are looked at in. */
const LOOKS = [
  { scheme: 'light', size: 'desktop' },
  { scheme: 'dark', size: 'desktop' },
  { scheme: 'light', size: 'phone' },
  { scheme: 'dark', size: 'phone' },
]

/** Opens every page in every look: all answer, none has a fault, none is wider than the window. */
export async function inLooks({ browser, demo, report, pages, missing = [], what, enter }) {
  for (const looks of LOOKS) {
    const visitor = await browser.visitor(demo.url, looks)
    visitor.refused = missing.length > 0
    await enter?.(visitor)
    const problems = []
    for (const path of [...pages, ...missing]) {
      const status = await visitor.open(path)
      const wanted = missing.includes(path) ? 404 : 200
      if (status !== wanted) problems.push(`${path}: status ${status}, not ${wanted}`)
      problems.push(...(await visitor.accessibility()), ...(await visitor.overflow()))
    }
    problems.push(...(await visitor.leave()))
    const seen = `${pages.length + missing.length} pages`
    report.check(`${what}, ${looks.scheme}, ${looks.size}: no fault`, problems, seen)
  }
}

/** The texts of all that matches. */
export const texts = (page, selector) => page.locator(selector).allInnerTexts()

/** Whether two lists of texts are not the same. */
export const differ = (a, b) => JSON.stringify(a) !== JSON.stringify(b)

/** The first answer that is not false, asked for so many seconds. */
export async function eventually(ask, seconds = 30) {
  const end = Date.now() + seconds * 1000
  for (;;) {
    const answer = await ask()
    if (answer || Date.now() > end) return answer
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** What a route answers, as JSON. */
export async function json(url, options) {
  const answer = await fetch(url, options)
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  return answer.json()
}
