import { defineConfig } from 'vitest/config'

// unit: beside the sources, no sockets. contract: one suite against real server processes on Node and Deno.
// services: backends against real servers that the tests start.
// chart: what Helm renders, by linters and schemas; scripts/test-chart.ts builds the tools first.
// loadtest: the k6 scenarios in a short form; scripts/test-loadtest.ts builds k6 first.
// cluster: the chart on the cluster that KUBECONFIG names; scripts/test-cluster.sh brings one up.
// e2e: the server in front of the real Python runtime; scripts/test.ts prepares its environment.
export default defineConfig({
  test: {
    reporters: process.env.REPORT_FILE
      ? ['default', ['json', { outputFile: `${process.env.REPORT_FILE}.json` }]]
      : ['default'],
    // Longer than a test waits for an event, so that it says what did not happen.
    testTimeout: 180_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: [
            'src/**/*.test.ts',
            'scripts/**/*.test.ts',
            'loadtest/**/*.test.ts',
            'test/unit/**/*.test.ts',
          ],
        },
      },
      {
        extends: true,
        test: { name: 'contract', include: ['test/contract/**/*.test.ts'], maxWorkers: 2 },
      },
      {
        extends: true,
        test: {
          name: 'services',
          include: ['test/services/**/*.test.ts'],
          // They wait for servers more than they compute.
          maxWorkers: 3,
          hookTimeout: 300_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'chart',
          include: ['test/chart/**/*.test.ts'],
          fileParallelism: false,
          hookTimeout: 600_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'loadtest',
          include: ['test/loadtest/**/*.test.ts'],
          // They wait for k6 more than they compute.
          maxWorkers: 2,
          maxConcurrency: 3,
          testTimeout: 300_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'cluster',
          include: ['test/cluster/**/*.test.ts'],
          // Each in namespaces of its own; they wait for the cluster more than they ask of it.
          maxWorkers: 2,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
})
