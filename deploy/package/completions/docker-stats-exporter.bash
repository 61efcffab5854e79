# bash completion of docker-stats-exporter. Written by `cargo xtask docs`.

_docker_stats_exporter() {
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $cur == '=' ]]; then
        cur=
    elif [[ $flag == '=' ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $flag in
        --web.config.file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --source) mapfile -t COMPREPLY < <(compgen -W 'auto cgroup docker-api' -- "$cur"); return ;;
        --path.cgroup) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
        --path.procfs) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
        --ebpf) mapfile -t COMPREPLY < <(compgen -W 'auto on off' -- "$cur"); return ;;
        --read.snapshot) mapfile -t COMPREPLY < <(compgen -W 'auto on off' -- "$cur"); return ;;
        --metrics.schema) mapfile -t COMPREPLY < <(compgen -W 'cadvisor docker-stats both' -- "$cur"); return ;;
        --sandbox) mapfile -t COMPREPLY < <(compgen -W 'auto on off' -- "$cur"); return ;;
        --log.level) mapfile -t COMPREPLY < <(compgen -W 'trace debug info warn error' -- "$cur"); return ;;
        --log.format) mapfile -t COMPREPLY < <(compgen -W 'logfmt json' -- "$cur"); return ;;
        --sort) mapfile -t COMPREPLY < <(compgen -W 'cpu memory memory-percent network disk pressure restarts uptime name' -- "$cur"); return ;;
        --ca-file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --password-file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --web.listen-address | --web.telemetry-path | --web.max-requests | --scrape.min-interval | --docker.url | --docker.resync-interval | --containers.labels | --containers.include | --containers.exclude | --cgroups.include | --containers.linger | --metrics.include | --metrics.exclude | --url | --interval | --filter | --user) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--web.listen-address= --web.systemd-socket --web.telemetry-path= --web.config.file= --web.max-requests= --web.disable-exporter-metrics --source= --path.cgroup= --path.procfs= --scrape.min-interval= --ebpf= --read.snapshot= --docker.url= --docker.resync-interval= --containers.labels= --containers.include= --containers.exclude= --cgroups.include= --containers.linger= --metrics.schema= --metrics.include= --metrics.exclude= --sandbox= --log.level= --log.format= --version --help --collector.disable-defaults --url= --interval= --sort= --filter= --ca-file= --user= --password-file= --all --once --json --local --no-color --ascii --collector.cpu --no-collector.cpu --collector.memory --no-collector.memory --collector.pressure --no-collector.pressure --collector.blkio --no-collector.blkio --collector.network --no-collector.network --collector.pids --no-collector.pids --collector.state --no-collector.state --collector.machine --no-collector.machine --collector.memory_detail --no-collector.memory_detail --collector.hugetlb --no-collector.hugetlb --collector.numa --no-collector.numa --collector.percpu --no-collector.percpu --collector.tcp --no-collector.tcp --collector.process --no-collector.process --collector.disk --no-collector.disk --collector.tasks --no-collector.tasks --collector.ebpf_network --no-collector.ebpf_network --collector.ebpf_blkio --no-collector.ebpf_blkio --collector.blkio_detail --no-collector.blkio_detail --collector.ebpf_sched --no-collector.ebpf_sched' -- "$cur")
        if [[ ${COMPREPLY[0]-} == *= ]]; then compopt -o nospace; fi
    else
        mapfile -t COMPREPLY < <(compgen -W 'doctor healthcheck top' -- "$cur")
    fi
}

complete -F _docker_stats_exporter docker-stats-exporter
