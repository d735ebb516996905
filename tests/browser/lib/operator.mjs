// What the operator sees and does.
import { eventually, inLooks, json, texts } from './looks.mjs'

/** Pages of the operator that need no name in their address. */
export const PAGES = [
  '/admin',
  '/admin/console/hosts',
  '/admin/console/bans',
  '/admin/console/takedowns',
  '/admin/console/subscribers',
  '/admin/console/settings',
  '/admin/console/backfill',
  '/admin/console/audit',
]

export async function operate({ browser, demo, report, say }) {
  const { hosts } = await json(`${demo.url}/hosts.json`)
  const host = hosts[1].hostname
  await strangers({ browser, demo, report })
  await inLooks({ browser, demo, report, pages: ['/admin'], what: 'the log-in' })
  const enter = (visitor) => logIn(visitor, demo.password)
  const pages = [...PAGES, `/admin/console/host?host=${host}`]
  await inLooks({ browser, demo, report, pages, what: "the operator's pages", enter })
  say('every page of the operator, light and dark, on a desk and on a phone')
  for (const script of [true, false]) await block({ browser, demo, report, host, script })
  await settings({ browser, demo, report })
  say('a host blocked and unblocked, with a script and without')
}

/** Fills in the form. */
export async function logIn(visitor, password) {
  await visitor.open('/admin')
  await visitor.page.getByLabel('Password').fill(password)
  await visitor.page.getByRole('button', { name: 'Log in' }).click()
  await visitor.page.waitForLoadState()
}

async function strangers({ browser, demo, report }) {
  const visitor = await browser.visitor(demo.url)
  visitor.refused = true
  await logIn(visitor, 'a guess')
  const said = await visitor.page.getByRole('alert').innerText()
  report.is('a wrong password is said to be wrong', /wrong|not/i.test(said), said)
  const problems = []
  for (const path of PAGES) {
    await visitor.open(path)
    if (!(await visitor.page.getByLabel('Password').count())) problems.push(`${path} shows something`)
  }
  report.check('nobody sees anything without the password', problems)
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}

async function block({ browser, demo, report, host, script }) {
  const how = script ? 'with a script' : 'without a script'
  const visitor = await browser.visitor(demo.url, { script })
  const { page } = visitor
  await logIn(visitor, demo.password)
  const status = async () => (await json(`${demo.url}/hosts/${host}.json`)).status
  const press = async (name) => {
    await page.goto(`/admin/console/host?host=${host}`)
    const main = page.getByRole('main')
    await main.getByRole('link', { name }).or(main.getByRole('button', { name })).first().click()
    await page.waitForLoadState()
    // What does harm is asked about before it is done.
    if (page.url().includes('/confirm')) await main.getByRole('button', { name }).click()
    await page.waitForLoadState()
    return texts(page, 'main [role=status], main [role=alert]')
  }
  const blocked = await press(/^block/i)
  report.is(`${how}, a host is blocked`, await eventually(async () => (await status()) === 'banned'), blocked.join(' '))
  const unblocked = await press(/^unblock/i)
  report.is(`${how}, it is unblocked`, await eventually(async () => (await status()) !== 'banned'), unblocked.join(' '))
  await page.goto('/admin/console/audit')
  const log = await page.getByRole('main').innerText()
  report.is(`${how}, both are in the log`, log.includes('pds/block') && log.includes('pds/unblock'))
  const cookies = await visitor.context.cookies()
  const open = cookies.filter(({ httpOnly, sameSite }) => !httpOnly || sameSite !== 'Strict')
  report.check(
    'scripts and other sites can not have the log-in',
    open.map(({ name }) => name),
    cookies.map(({ name }) => name).join(', '),
  )
  if (script) {
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]))
    report.is('the browser keeps nothing else', kept === '[{},{}]', kept)
  }
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.waitForLoadState()
  visitor.refused = true
  await visitor.open('/admin/console/hosts')
  report.is('after the log-out nothing is shown', (await page.getByLabel('Password').count()) === 1)
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}

async function settings({ browser, demo, report }) {
  const visitor = await browser.visitor(demo.url)
  const { page } = visitor
  await logIn(visitor, demo.password)
  await page.goto('/admin/console/settings')
  const row = page.locator('#new_hosts_per_day')
  await row.getByRole('textbox').fill('7')
  await row.getByRole('button', { name: /change/i }).click()
  await page.waitForLoadState()
  const auth = `Basic ${Buffer.from(`admin:${demo.password}`).toString('base64')}`
  const now = await json(`${demo.url}/admin/subs/perDayLimit`, { headers: { authorization: auth } })
  report.is('a setting is changed', now.limit === 7, JSON.stringify(now))
  await page.locator('#new_hosts_per_day').getByRole('button', { name: /reset/i }).click()
  await page.waitForLoadState()
  const then = await json(`${demo.url}/admin/subs/perDayLimit`, { headers: { authorization: auth } })
  report.is('and changed back', then.limit !== 7, JSON.stringify(then))
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}
