# make demo    set up, build, and show who got fooled (about 12 minutes after the build on 2 cores)
# make test    set up, build and run every test
.PHONY: demo test build lint fuzz wheel interop libtorch libtorch-cuda emoji emoji-verify

demo: build
	target/release/roclip demo

test: libtorch
	cargo test --release --locked --workspace

build: libtorch
	cargo build --release --locked --workspace --bin roclip

lint: libtorch
	cargo fmt --all --check
	rustfmt --edition 2024 --check crates/roclip-data/src/trigger/*.rs
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

# What reads strangers' bytes, fed with mutated ones: about a minute in all, or FUZZ_SECONDS=600 for ten minutes a target
FUZZ_SECONDS ?= 6
fuzz: libtorch
	scripts/fuzz.sh $(FUZZ_SECONDS)

# The Python package, in target/wheel/, and a trial of it
wheel: libtorch
	scripts/wheel.sh --check

# Exports loaded by the real open_clip and transformers; installs both (about 5 GB) into .interop/
interop: libtorch
	@test -e .interop/.complete || { python3 -m venv .interop && .interop/bin/pip install --quiet --disable-pip-version-check \
		-r tests/interop/requirements.txt && touch .interop/.complete; }
	ROCLIP_INTEROP_PYTHON=$(CURDIR)/.interop/bin/python cargo test --release --locked --workspace --test interop -- --ignored --nocapture

# libtorch 2.11 into .libtorch/ (or a link to your own PyTorch 2.11)
libtorch:
	@scripts/libtorch.sh

# ... with everything a GPU needs
libtorch-cuda:
	@scripts/libtorch.sh --cuda

# The built-in data set again from its npm packages; needs npm
emoji:
	data/emoji/build.sh data/emoji

# ... and compared with the shards in the repository, byte for byte
emoji-verify:
	data/emoji/build.sh data/emoji/builder/out
	cd data/emoji/builder/out && sha256sum --check ../../SHA256SUMS
