/** The server on Deno: the same program, on Deno's own modules of Node. docs/security.md says why. */
import './main.node.ts'
