# Search on a cluster: `sbatch launch/search.sh [--trials 20 ...]`, from the project's folder.
#
# Each job of the array is a worker of one study, whose storage is a file in runs/, or what OPTUNA_STORAGE names. The
# trial of a worker whose time is up goes on when its job has been queued again.
#SBATCH --job-name={{ project }}-search
#SBATCH --partition=FILL_IN
#SBATCH --array=1-3
#: if strategy == "single"
#SBATCH --nodes=1 --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#: endif
#: if strategy != "single"
# A process for each GPU:
#SBATCH --nodes=1 --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#: endif
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00 --signal=USR1@120
#SBATCH --output=launch/%A-%a.log --open-mode=append --requeue

set -uo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # which srun does not take from the job by itself
export OPTUNA_STORAGE=${OPTUNA_STORAGE:-runs/search.journal}

#: if strategy == "single"
srun python -m {{ package }}.tune "$@"
#: endif
#: if strategy != "single"
# Where one process has failed, others may wait for it: they have a minute to end.
srun --wait=60 python -m {{ package }}.tune "$@"
#: endif
code=$?
if ((code == 75)); then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
