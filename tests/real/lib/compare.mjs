// Comparing JSON values. Each answer is a list of what is wrong, for a check.

/** What is wrong where `got` should be `wanted`. */
export function differs(got, wanted) {
  const [is, should] = [got, wanted].map((value) => JSON.stringify(sorted(value)))
  return is === should ? [] : [`${is}, not ${should}`]
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  )
}

/** What of an object is not of its type: a JSON type, a date in a string, or such an object. */
export function mistyped(object, types) {
  return Object.entries(types).flatMap(([key, type]) => {
    const value = object?.[key]
    if (typeof type === 'object') return mistyped(value, type).map((problem) => `${key}.${problem}`)
    const right =
      type === 'date'
        ? typeof value === 'string' && !Number.isNaN(Date.parse(value))
        : typeof value === type
    return right ? [] : [`${key} is ${JSON.stringify(value)}, no ${type}`]
  })
}
