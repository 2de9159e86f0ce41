import { createConnectTransport } from '@connectrpc/connect-web'
import { State } from './gen/registrar/v1/registrar_pb.js'
import { describe, register } from './register.js'

/** What to show the user. */
export async function registerFromPage(server, documentHash, caseId) {
  const transport = createConnectTransport({ baseUrl: server })
  try {
    const { id, state, transaction } = await register(transport, documentHash, caseId)
    return `${id} ${State[state]} ${transaction.hash}`
  } catch (error) {
    const { code, reason, traceId, message } = describe(error)
    return `${code} ${reason} ${message} (trace ${traceId})`
  }
}
