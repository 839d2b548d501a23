import sys, os, time, tempfile, traceback
sys.path.insert(0,'/opt/w/courseb/notebooks')
import build, nbformat
from pathlib import Path
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config
def expand(nb):
    hidden=[];cells=[]
    for cell in nb.cells:
        cells.append(cell)
        if cell.cell_type=='markdown':
            f=[nbformat.v4.new_code_cell(s) for s in build.solutions(cell.source)]
            hidden+=[o.id for o in f]; cells+=f
    return cells,hidden
def live(stem, log):
    script=build.FOLDER/f'{stem}.py'
    nb=build.read(script); cells,hidden=expand(nb); nb.cells=cells
    config=Config(); config.KernelManager.transport='ipc'
    t0=time.time()
    with tempfile.TemporaryDirectory() as s:
        config.KernelManager.ip=str(Path(s)/'kernel')
        client=NotebookClient(nb,config=config,timeout=1800,kernel_name='python3',resources={'metadata':{'path':str(build.FOLDER)}},record_timing=False,extra_arguments=['--IPKernelApp.capture_fd_output=False'])
        with client.setup_kernel():
            pre=nbformat.v4.new_code_cell('import matplotlib; matplotlib.use("module://matplotlib_inline.backend_inline"); import matplotlib.pyplot; get_ipython().run_line_magic("matplotlib","inline"); del matplotlib'); nb.cells=[pre]; client.execute_cell(pre,0,store_history=False); nb.cells=cells; print('pre',pre.outputs,file=log,flush=True)
            i=0
            while i<len(cells):
                if cells[i].cell_type!='code': i+=1; continue
                t=time.time()
                try:
                    client.execute_cell(cells[i],i)
                    out=''.join(o.get('text','') for o in cells[i].outputs)
                    print(f'[{i}] {time.time()-t:.0f}s {cells[i].source.splitlines()[0][:50]!r}\n{out}',file=log,flush=True)
                except CellExecutionError as e:
                    print(f'[{i}] FAILED\n{str(e)[-1500:]}',file=log,flush=True)
                    m=script.stat().st_mtime; w=0
                    while script.stat().st_mtime==m and w<2400: time.sleep(1); w+=1
                    if w>=2400: print('gave up',file=log,flush=True); return
                    time.sleep(0.5)
                    new=build.read(script); nc,hidden=expand(new)
                    k=0
                    while k<min(i,len(nc)) and nc[k].cell_type==cells[k].cell_type and (nc[k].cell_type!='code' or nc[k].source==cells[k].source):
                        if nc[k].cell_type=='code': nc[k].outputs=cells[k].outputs
                        k+=1
                    nb.cells=cells=nc; client.nb=nb; i=k
                    print(f'resume at {k}',file=log,flush=True)
                    continue
                i+=1
    # take text as it is now
    final=build.read(script)
    ran=[c for c in cells if c.id not in hidden]
    ok=[c.source for c in ran if c.cell_type=='code']==[c.source for c in final.cells if c.cell_type=='code']
    src=[c for c in ran if c.cell_type=='code']
    if not ok: print('code differs now; keeping what ran',file=log,flush=True); final=nb; final.cells=ran
    else:
        for a,b in zip([c for c in final.cells if c.cell_type=='code'],src): a.outputs=b.outputs
    build.number(final); final.metadata['language_info']={'name':'python'}
    build.write(final,script.with_suffix('.ipynb'))
    print(f'DONE {stem} {time.time()-t0:.0f}s',file=log,flush=True)
for stem in sys.argv[1:]:
    log=open(f'/tmp/cb/live_{stem}.log','w')
    try: live(stem,log)
    except BaseException: traceback.print_exc(file=log); log.flush()
