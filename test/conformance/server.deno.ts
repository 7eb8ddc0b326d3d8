/** The fixtures on Deno, which runs the program of Node as the server does. */
import './server.node.ts'
