# All programs, bundled. The server (pod door or gateway) is what it runs by itself: docker run <image> --help tells
# its flags. The others by command: node dist/operator.mjs, node dist/injector.mjs,
# node dist/sequencer.mjs.
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN node tools/build.ts

FROM node:24-slim
WORKDIR /app
COPY --from=build /app/dist dist
# One arena, so that little lies fallow. Buffers of the hot path (up to 512 KiB) are reused by malloc: mapping
# each anew would cost a fifth of the CPU time.
ENV MALLOC_ARENA_MAX=1
ENV MALLOC_MMAP_THRESHOLD_=524288
# What lives short is collected sooner, in a quarter of the memory.
ENV NODE_OPTIONS=--max-semi-space-size=4
USER 65534
# The encoder's parts are compiled as one function: a sixth of its CPU time.
ENTRYPOINT ["node", "--max-inlined-bytecode-size-cumulative=3000", "dist/sidecar.mjs"]
