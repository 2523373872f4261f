// Node's environment of Jest with an ordinary global object. The one that Jest makes asks an interceptor for
// every global (Buffer, Math, Map), at each use: that is three quarters of what a simulation takes.
const vm = require("node:vm");
const { TestEnvironment } = require("jest-environment-node");

module.exports = class extends TestEnvironment {
  constructor(...of) {
    const { createContext } = vm;
    vm.createContext = () => createContext(vm.constants.DONT_CONTEXTIFY);
    try {
      super(...of);
    } finally {
      vm.createContext = createContext;
    }
  }
};
