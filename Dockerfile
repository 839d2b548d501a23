# The command tfvae in a container:
#
#   docker build -t tfvae .
#   docker run --rm -v "$PWD/runs:/home/tfvae/runs" tfvae
#
# trains the default model, and what comes after "tfvae" is the command: tfvae evaluate runs/NAME.
# With NVIDIA's GPUs (and its container toolkit):
#
#   docker build -t tfvae:cuda --build-arg EXTRAS=cuda .
#   docker run --rm --gpus all -v "$PWD/runs:/home/tfvae/runs" tfvae:cuda
#
# EXTRAS are any of pyproject.toml, as in EXTRAS=cuda,app.
FROM python:3.11-slim
ARG EXTRAS=""
COPY pyproject.toml setup.py README.md LICENSE /src/
COPY tfvae /src/tfvae
RUN pip install --no-cache-dir "/src${EXTRAS:+[$EXTRAS]}" && rm -rf /src
# What a stranger's data might do, it does to nobody's files but its own.
RUN useradd --create-home tfvae && mkdir /home/tfvae/runs && chown tfvae /home/tfvae/runs
USER tfvae
WORKDIR /home/tfvae
ENTRYPOINT ["tfvae"]
CMD ["train"]
