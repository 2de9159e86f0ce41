import { Code, ConnectError, createClient } from '@connectrpc/connect'
import { RegistrarService, WaitFor } from './gen/registrar/v1/registrar_pb.js'

/** Returns the registration, or throws a ConnectError. The same pair may be sent again whenever the outcome is unknown. */
export async function register(transport, documentHash, caseId, headers = {}) {
  const registrar = createClient(RegistrarService, transport)
  const request = { documentHash, caseId, waitFor: WaitFor.CONFIRMED, waitTimeout: { seconds: 20n } }
  for (let attempt = 1; ; attempt++) {
    try {
      const { registration } = await registrar.registerDocument(request, { headers, timeoutMs: 30_000 })
      return registration
    } catch (caught) {
      const error = ConnectError.from(caught)
      if (attempt === 5 || ![Code.Unavailable, Code.ResourceExhausted].includes(error.code)) throw error
      await new Promise(resolve => setTimeout(resolve, 250 * 2 ** attempt))
    }
  }
}

/** Branch on the reason, follow accepted work by its id, log the trace id. */
export function describe(error) {
  const header = name => error.metadata.get(name)
  const [reason, id, traceId] = ['x-error-reason', 'x-registration-id', 'x-trace-id'].map(header)
  return { code: Code[error.code], reason, id, traceId, message: error.rawMessage }
}
