import { defineConfig } from 'vite';

// The content security policy allows files of the server alone: nothing is inlined, no data: addresses.
export default defineConfig({
  build: { target: 'es2020', assetsInlineLimit: 0, modulePreload: { polyfill: false }, cssCodeSplit: false },
  server: { proxy: { '/api': 'http://127.0.0.1:5080', '/events': 'http://127.0.0.1:5080' } },
});
