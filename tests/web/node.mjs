import { createConnectTransport } from '@connectrpc/connect-node'
import { State } from './gen/registrar/v1/registrar_pb.js'
import { describe, register } from './register.js'

const [server, documentHash, caseId] = process.argv.slice(2)
const transport = createConnectTransport({ baseUrl: `http://${server}`, httpVersion: '1.1' })
const headers = { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' } // of your own trace
try {
  const { id, state, transaction } = await register(transport, documentHash, caseId, headers)
  console.log(id, State[state], transaction.hash)
} catch (error) {
  const { code, reason, id, message } = describe(error)
  console.log(code, reason, id, message)
}
