# Train on a cluster: `sbatch launch/slurm.sh [--group.name value ...]`, from the project's folder.
#
# The job has your environment, with the virtual environment that is active. Its run is runs/slurm-JOB. Before its time
# is up, Slurm signals the run, which saves and ends with 75; the job is queued again and goes on. `scancel` saves too.
#SBATCH --job-name={{ project }}
#SBATCH --partition=FILL_IN
#: if strategy == "single"
#SBATCH --nodes=1 --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#: endif
#: if strategy != "single"
# A process for each GPU:
#SBATCH --nodes=2 --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#: endif
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00 --signal=USR1@120
#SBATCH --output=launch/%j.log --open-mode=append --requeue

set -uo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # which srun does not take from the job by itself

#: if strategy == "single"
srun python -m {{ package }}.train --out_dir "runs/slurm-$SLURM_JOB_ID" "$@" --resume auto
#: endif
#: if strategy != "single"
# Where one process has failed, others may wait for it: they have a minute to end.
srun --wait=60 python -m {{ package }}.train --out_dir "runs/slurm-$SLURM_JOB_ID" "$@" --resume auto
#: endif
code=$?
if ((code == 75)); then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
