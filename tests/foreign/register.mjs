import grpc from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const [server, protoFolder, documentHash, caseId] = process.argv.slice(2)
const options = { includeDirs: [protoFolder], enums: String, longs: String }
const definition = loadSync('registrar/v1/registrar.proto', options)
const { RegistrarService } = grpc.loadPackageDefinition(definition).registrar.v1
const registrar = new RegistrarService(server, grpc.credentials.createInsecure())

const request = { documentHash, caseId, waitFor: 'WAIT_FOR_CONFIRMED', waitTimeout: { seconds: 20 } }
registrar.registerDocument(request, { deadline: Date.now() + 30_000 }, (error, answer) => {
  if (error) {
    const [reason] = error.metadata.get('x-error-reason')
    const [id] = error.metadata.get('x-registration-id')
    console.log(grpc.status[error.code], reason, id, error.details)
  } else {
    const { id, state, transaction } = answer.registration
    console.log(id, state, transaction.hash)
  }
  registrar.close()
})
