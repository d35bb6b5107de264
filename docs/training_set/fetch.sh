#!/usr/bin/env bash
# Fetch the recordings that the bundled codec is trained and measured on, at the commits that were used: fetch.sh FOLDER
# Then: python docs/training_set/rebuild.py FOLDER TRAIN HOLDOUT. Licences and attributions are in the codec's card and NOTICE.
set -euo pipefail
folder=${1:?where to put the repositories}

fetch() { # repository commit patterns...
    local to="$folder/$1" repository=$1 commit=$2
    shift 2
    mkdir -p "$to"
    git -C "$to" init --quiet
    git -C "$to" fetch --quiet --depth 1 --filter=blob:none "https://github.com/$repository" "$commit"
    git -C "$to" -c advice.detachedHead=false sparse-checkout set --no-cone "$@"
    git -C "$to" checkout --quiet FETCH_HEAD
}

fetch rhasspy/dataset-voice-nathalie 3b3e91f39d13e2e681d8937575efb9bd3b3d8f5c '/verified/*.flac'
fetch rhasspy/dataset-voice-flemishguy 2576e9c8e5b6eec92e45010b5ede87c4f836f21e '/wavs/*.wav'
fetch rhasspy/dataset-voice-kerstin f73127135cf80d6ef52aef6af58c49774f4fd625 '/verified/*.flac'
fetch coqui-ai/TTS dbf1a08a0d4e47fdad6172e433eeb34bc6b13b4e '/tests/data/ljspeech/wavs/*.wav'
fetch google/df-conformer 77f11f3fb3a71c13addd0af7b3f35951c72884c3 '/miipher/data/*_gt.wav' '/miipher2/libritts/*.wav' '/miipher2/mls/*.wav' '/miipher2/fleurs/*.wav'
fetch heitorchang/fleursdumal_librivox 81961cf355fb139faecbe63d0f244017ee94b86b '/audio/*.mp3'
fetch jimbozhang/speechocean762 613968e3b0b789fc33936fb5eba1973176ba7d11 '/WAVE/'
fetch MTG/sms-tools 7d1d2c704336e0fec7ddcec75996dfbe53e35226 '/sounds/*.wav'
fetch librosa/data 450cdd8a002c98e7bdbfebb309fc1ed024001f77 '/audio/*.hq.ogg'
fetch digabi/koe-ohje 1e05203e8ccb341f6cdce15386331de102492614 '/common/muzak/*.mp3'
fetch gm3/cc0-beats 813e550b89cd343a7349c824bdc7a819546c1f1c '/2023/*.mp3' '/2024-Feb/*.mp3' '/SFX/*.mp3'
fetch sonic-pi-net/sonic-pi c0002065a976b1355e7889f4aa96a1804e2b8119 '/etc/samples/*.flac'
fetch karoldvl/ESC-10 553c8f1743b9dba6b282e1323c3ca8fa76923448 '/*/*.ogg'
fetch rafaelmardojai/blanket 8b1c27aedde1d6ad8053ce5ad351a2924bcdb766 '/data/resources/sounds/*.ogg'
# The hold-out's alone; more of it is in the repositories above.
fetch openai/whisper c0d2f624c09dc18e709e37c2ad90c039a4eb72a2 '/tests/jfk.flac'
fetch bigpon/AudioDec_demo 68e41fc5fa6b8a027b3321066c8fcf13e30ab91d '/res/audio/*/Natural/*.wav'
fetch totalgee/binaural-livecoding 49588e2c38f4f1d7fac73feff2bb6fa9a1baf143 '/samples/LluviasDeMayo.flac'
fetch facebookresearch/encodec 0e2d0aed29362c8e8f52494baf3e6f99056b214f '/test_48k.wav'
