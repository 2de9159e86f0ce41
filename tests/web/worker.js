import { createConnectTransport } from '@connectrpc/connect-web'
import { State } from './gen/registrar/v1/registrar_pb.js'
import { describe, register } from './register.js'

export default {
  async fetch(request, env) {
    const { documentHash, caseId } = await request.json()
    const transport = createConnectTransport({
      baseUrl: env.REGISTRAR_URL,
      // connect-web asks for `redirect: 'error'`, which Workers do not have.
      fetch: (input, init) => fetch(input, { ...init, redirect: 'manual' }),
    })
    const headers = {} // continues the trace of the request
    for (const name of ['traceparent', 'tracestate', 'sentry-trace', 'baggage']) {
      if (request.headers.has(name)) headers[name] = request.headers.get(name)
    }
    try {
      const { id, state, transaction } = await register(transport, documentHash, caseId, headers)
      return Response.json({ id, state: State[state], transaction: transaction.hash })
    } catch (error) {
      return Response.json(describe(error), { status: 502 })
    }
  },
}
