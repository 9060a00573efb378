# One command each; every one of them installs what it lacks on Debian or Ubuntu.
#   make run        build, show the device, run the example
#   make test       lints and all tests
#   make hosts      the tests again, on SwiftShader and on host drivers worse than lavapipe
#   make validation   the tests again, with the Khronos validation layer above Lockstep and below
#   make tsan       the tests again, under ThreadSanitizer
#   make mutations  each flush, each pull and the recording of each command left out in turn: some test must notice
#   make models     races under model checkers: lock-free protocols in all interleavings, scenarios in many
#   make bench      what coherency costs on whole frames, in percent: table, JSON, a page with plots; ARGS= for more
#   make bench-instructions   what tracking costs: instructions a page, and time of a real scan
#   make bench-recording   what recording commands and polling fences costs over the host alone
#   make cts DEQP=path/to/deqp-vk   the CTS's memory groups natively and on Lockstep; ARGS= for more
#   make capture    the example captured with GFXReconstruct above Lockstep, and replayed on the host alone
#   make clients    OpenGL programs on zink, on the host driver alone and on Lockstep: the same results, the same pictures
#   make install    PREFIX=/usr/local DESTDIR=
#   make uninstall

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

LIBRARY  := libvulkan_lockstep.so
MANIFEST := lockstep_icd.x86_64.json
ICD      := $(CURDIR)/manifest/$(MANIFEST)

.PHONY: run build test hosts validation tsan mutations models bench bench-instructions bench-recording cts capture clients lint deps install uninstall clean

run: deps build
	VK_ICD_FILENAMES=$(ICD) vulkaninfo --summary 2>/dev/null | sed -n '/^Devices:/,$$p'
	VK_ICD_FILENAMES=$(ICD) $(CARGO) run --release --locked -p lockstep-scene -- $(ARGS)

build:
	$(CARGO) build --release --locked -p vulkan-lockstep

test: deps lint
	scripts/test

hosts: deps
	scripts/hosts

validation: deps
	scripts/validation

tsan: deps
	scripts/tsan

mutations: deps
	scripts/mutations

models: deps
	scripts/loom
	scripts/shuttle

bench:
	@scripts/install-deps gfxreconstruct glmark2-x11 libgl1-mesa-dri python3-venv
	$(CARGO) build --release --locked -p vulkan-lockstep -p lockstep-scene -p lockstep-bench
	LOCKSTEP_BENCH_PYTHON=$$(scripts/bench-python) $(CARGO) run --quiet --release --locked -p lockstep-bench -- $(ARGS)

bench-instructions:
	scripts/bench-instructions
	$(CARGO) bench --locked -p kmd-sim --bench scan

bench-recording: deps
	$(CARGO) bench --locked -p lockstep-integration --bench recording

PRESET ?= memory

cts: deps
	$(CARGO) run --quiet --locked -p cts-runner -- $(PRESET) $(if $(DEQP),--deqp $(DEQP)) $(ARGS)

capture:
	@scripts/install-deps gfxreconstruct
	scripts/capture

clients:
	scripts/clients

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --locked -p kmd-sim -p vulkan-lockstep
	scripts/generate --check

deps:
	@scripts/install-deps

install: build
	install -D -m 755 target/release/$(LIBRARY) $(DESTDIR)$(PREFIX)/lib/$(LIBRARY)
	install -d $(DESTDIR)$(PREFIX)/share/vulkan/icd.d
	sed 's|"library_path": *"[^"]*"|"library_path": "$(PREFIX)/lib/$(LIBRARY)"|' manifest/$(MANIFEST) \
		> $(DESTDIR)$(PREFIX)/share/vulkan/icd.d/$(MANIFEST)
	chmod 644 $(DESTDIR)$(PREFIX)/share/vulkan/icd.d/$(MANIFEST)

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/lib/$(LIBRARY) $(DESTDIR)$(PREFIX)/share/vulkan/icd.d/$(MANIFEST)

clean:
	$(CARGO) clean
