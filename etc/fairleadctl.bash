# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of fairleadctl(8) for bash. The verbs are asked of the program,
# identifiers of the daemon, so that nothing is listed here twice.

_fairleadctl_verbs() {
	fairleadctl -h 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p'
}

# _fairleadctl_ids VERB MEMBER: what the daemon lists, if it runs.
_fairleadctl_ids() {
	fairleadctl "${_fairleadctl_socket[@]}" -j "$1" 2>/dev/null |
		grep -o "\"$2\": *\"[^\"]*\"" | sed 's/.*: *"\(.*\)"/\1/'
}

_fairleadctl() {
	local word=${COMP_WORDS[COMP_CWORD]} i verb="" first="" choices=""
	local -a _fairleadctl_socket=()

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s)
			_fairleadctl_socket=(-s "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		-*) ;;
		*)
			if [[ -z $verb ]]; then
				verb=${COMP_WORDS[i]}
			elif [[ -z $first ]]; then
				first=${COMP_WORDS[i]}
			fi
			;;
		esac
	done
	if [[ ${COMP_WORDS[COMP_CWORD - 1]} == -s ]]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
	fi
	case $verb:$first in
	:*) choices="-j -s $(_fairleadctl_verbs)" ;;
	credential:) choices=$(_fairleadctl_ids credentials id) ;;
	credential:*) choices='enable disable reset refresh' ;;
	session:) choices=$(_fairleadctl_ids sessions key) ;;
	unbind:) choices='session credential' ;;
	unbind:credential) choices=$(_fairleadctl_ids credentials id) ;;
	unbind:session) choices=$(_fairleadctl_ids sessions key) ;;
	reload:) choices='--dry-run' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}

complete -F _fairleadctl fairleadctl
